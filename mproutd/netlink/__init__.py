"""The kernel: messages, sockets, and what is read and changed through them."""
