"""The Ansible roles of packaging/ansible, run against Debian with systemd: make ansible."""
