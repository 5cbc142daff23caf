"""Accounts from and to other files. `READERS` is where a new format is added."""

from accounts.transfer.export import EXPORT
from accounts.transfer.foreign import FOREIGN
from accounts.transfer.formats import Reader

READERS: tuple[Reader, ...] = (EXPORT, FOREIGN)
"""Every kind of file that can be imported, asked in this order."""
