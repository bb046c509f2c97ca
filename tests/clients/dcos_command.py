"""The published DC/OS command line (dcoscli 0.6.1) on a Python that is newer than it.

usage: dcos_command.py ARGUMENTS...     as `dcos`; DCOS_DIR says where its configuration is
"""
import collections
import collections.abc
import sys

# Python 3.10 took these names away.
for name in ("Callable", "Iterable", "Mapping", "MutableMapping", "Sequence"):
    setattr(collections, name, getattr(collections.abc, name))

from dcoscli.main import main

sys.argv[0] = "dcos"
sys.exit(main())
