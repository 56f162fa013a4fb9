"""Who sits at the terminal: their name, where the hub knows nobody by a login, and what they keep secret."""

import getpass

from driftline.errors import InvalidInputError


def myself() -> str | None:
    """Return the name this program's owner has on this machine."""
    try:
        return getpass.getuser()
    except (OSError, KeyError):  # nobody has this number here
        return None


def ask_secret(prompt: str, instead: str) -> str:
    """Ask for what nobody else is to see; `instead` is the option that reads it from a file.

    Raises:
        InvalidInputError: there is nobody to ask.
    """
    try:
        return getpass.getpass(prompt)
    except EOFError:
        raise InvalidInputError(f"there is no terminal to ask for it; give {instead} FILE, which holds it") from None
