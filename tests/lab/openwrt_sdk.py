"""Enough of OpenWrt's build system to run a package's Makefile with GNU make.

Written from what a Makefile may rely on (rules.mk, package.mk, python3-package.mk): variables,
the install programs with their modes, and that each package's install recipe gets a folder.  A
filespec's `+|` takes a path of PKG_INSTALL_DIR, its `-|` takes it back (or what a pattern of the
shell matches); either fails for a path that is not there.  What is installed of Python is bytecode
alone; bytecode that is there already stays.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

VERSION = f"{sys.version_info.major}.{sys.version_info.minor}"
SITE = f"usr/lib/python{VERSION}/site-packages"
PYTHON: str = getattr(sys, "_base_executable", sys.executable)
"""The interpreter without this checkout's virtual environment."""

RULES = """\
INSTALL_DIR:=install -d -m0755
INSTALL_BIN:=install -m0755
INSTALL_DATA:=install -m0644
INSTALL_CONF:=install -m0600
CP:=cp -fpR
FIND:=find
INCLUDE_DIR:=$(TOPDIR)/include
"""

PACKAGE = """\
PKG_BUILD_DIR?=$(TOPDIR)/build_dir/$(PKG_NAME)-$(PKG_VERSION)
PKG_INSTALL_DIR:=$(PKG_BUILD_DIR)/ipkg-install

.PHONY: prepare compile
prepare:
	$(Build/Prepare)
compile:
	$(Build/Configure)
	$(Build/Compile)

USERID:=
define BuildPackage
Package/$(1)/conffiles?=
.PHONY: install-$(1) describe-$(1)
install-$(1):
	install -d $$(TOPDIR)/root/$(1)
	$$(call Package/$(1)/install,$$(TOPDIR)/root/$(1))
describe-$(1):
	$$(eval $$(call Package/$(1)))
	@printf '%s\\n' '$$(TITLE)' '$$(DEPENDS)' '$$(USERID)' '$$(Package/$(1)/conffiles)'
packages:: ; @echo $(1)
endef
"""

PYTHON3 = f"""\
PYTHON3_PKG_DIR:=/{SITE}
HOST_PYTHON3_BIN:={PYTHON}
define newline


endef
define Py3Package
  ifndef Package/$(1)/install
    define Package/$(1)/install
	$$(call Py3Package/$(1)/install,$$(1))
	{PYTHON} $(TOPDIR)/filespec.py $(PKG_INSTALL_DIR) $$(1) \\
		'$$(subst $$(newline), ,$$(Py3Package/$(1)/filespec))'
	{PYTHON} -m compileall -q -b -d / $$(1)
	$(FIND) $$(1) -name '*.py' -delete
    endef
  endif
endef
"""

LUCI = """\
PKG_BUILD_DIR:=$(TOPDIR)/build_dir/$(PKG_NAME)
include $(INCLUDE_DIR)/package.mk

LUCI_LANGUAGES:=$(filter-out templates,$(notdir $(wildcard $(CURDIR)/po/*)))
LUCI_BASENAME:=$(patsubst luci-app-%,%,$(LUCI_NAME))
define newline


endef
define Build/Prepare
	$(foreach d,$(wildcard htdocs root),$(INSTALL_DIR) $(PKG_BUILD_DIR)/$(d)$(newline)\
	$(CP) ./$(d)/* $(PKG_BUILD_DIR)/$(d)/$(newline))
	$(call Build/Prepare/$(LUCI_NAME))
endef
Build/Configure:=
Build/Compile:=
define Package/$(PKG_NAME)
  TITLE:=$(LUCI_TITLE)
  DEPENDS:=$(LUCI_DEPENDS)
endef
define Package/$(PKG_NAME)/install
	$(INSTALL_DIR) $(1)/www
	cp -pR $(PKG_BUILD_DIR)/htdocs/* $(1)/www/
	cp -pR $(PKG_BUILD_DIR)/root/* $(1)/
endef
$(eval $(call BuildPackage,$(PKG_NAME)))
"""
"""LuCI's own, without its minifiers (which the package turns off) and its translations' tool."""

FILESPEC = """\
import glob, os, shutil, sys
source, target, spec = sys.argv[1:]
for entry in spec.split():
    sign, path = entry.split("|")
    at = target + path
    if sign == "+" and os.path.isdir(source + path):
        shutil.copytree(source + path, at, dirs_exist_ok=True)
    elif sign == "+":
        os.makedirs(os.path.dirname(at), exist_ok=True)
        shutil.copy(source + path, at)
    elif os.path.isdir(at):
        shutil.rmtree(at)
    else:
        for found in glob.glob(at) or [at]:
            os.unlink(found)
"""


class Sdk:
    """A folder to build in; nothing is written beside it."""

    def __init__(self, top: Path) -> None:
        self.top = top
        python = top / "feeds" / "packages" / "lang" / "python"
        for folder in (top / "include", python):
            folder.mkdir(parents=True)
        (top / "rules.mk").write_text(RULES)
        (top / "include" / "package.mk").write_text(PACKAGE)
        (python / "python3-package.mk").write_text(PYTHON3)
        luci = top / "feeds" / "luci"
        luci.mkdir()
        (luci / "luci.mk").write_text(LUCI)
        (python / "pypi.mk").write_text("PYPI_INCLUDED:=1\n")
        (top / "filespec.py").write_text(FILESPEC)

    def make(self, makefile: Path, *targets: str) -> str:
        """Run GNU make as the build system does, from the package's folder.

        AssertionError when it fails, or when a variable that is used is not set.
        """
        done = subprocess.run(
            ["make", "--no-print-directory", "-s", "--warn-undefined-variables"]
            + ["-C", str(makefile.parent), f"TOPDIR={self.top}", *targets],
            env={"PATH": os.environ["PATH"], "PYTHONDONTWRITEBYTECODE": "1"},
            text=True,
            capture_output=True,
            timeout=60,
        )
        assert done.returncode == 0, done
        assert not [line for line in done.stderr.splitlines() if "undefined" in line], done.stderr
        return done.stdout

    def build(self, makefile: Path, sources: Path | None = None) -> dict[str, Path]:
        """Build all packages of a Makefile: name → the folder that stands for a router's root.

        `sources`: the folder of modules that would have been downloaded.
        """
        self.make(makefile, "prepare") if sources is None else self._unpack(makefile, sources)
        self.make(makefile, "compile")
        names = self.make(makefile, "packages").split()
        for name in names:
            self.make(makefile, f"install-{name}")
        return {name: self.top / "root" / name for name in names}

    def _unpack(self, makefile: Path, sources: Path) -> None:
        named = dict(
            line.split(":=", 1) for line in makefile.read_text().splitlines() if ":=" in line
        )
        folder = self.top / "build_dir" / f"{named['PKG_NAME']}-{named['PKG_VERSION']}"
        shutil.copytree(
            sources, folder / sources.name, ignore=shutil.ignore_patterns("__pycache__")
        )

    def describe(self, makefile: Path, name: str) -> tuple[str, list[str], str, list[str]]:
        """Title, dependencies, user, and the files that are the user's."""
        title, depends, user, *files = self.make(makefile, f"describe-{name}").split("\n")
        return title, depends.split(), user, [file for file in files if file]
