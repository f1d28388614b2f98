"""
The account with an authority: made at the first order, kept in the storage, found again by its key.

Its key is stored before the account is made, so a process that is killed between does not make a
second one, which authorities limit.
"""

from collections.abc import Iterator
from contextlib import contextmanager

from msgspec.structs import replace

from .client import AuthorityClient, Directory, Order
from .keys import is_account_key, new_account_key
from .network import trusted_roots
from .options import AcmeOptions, ExternalAccount
from .problems import AuthorityError, AuthorityProblem
from .storage import Account, Storage


class Session:
    """An authority's directory, and the account that orders there."""

    def __init__(
        self,
        client: AuthorityClient,
        directory: Directory,
        account: Account,
        storage: Storage,
        options: AcmeOptions,
    ) -> None:
        self.client = client
        self.directory = directory
        # Set when an account is made, for the log; the URL, or "" if there are none.
        self.accepted_terms: str | None = None
        # Why the account has another address than is declared.
        self.email_problem: AuthorityProblem | None = None
        self._account = account
        self._storage = storage
        self._options = options

    def order(self, key: bytes, *, replaces: str = "") -> Order:
        """Order as the account, which is made if the authority does not know it."""
        try:
            return self._order(key, replaces)
        except AuthorityError as error:
            if error.problem.kind != "accountDoesNotExist":
                raise
        self._account = replace(self._account, url="")
        return self._order(key, replaces)

    def _order(self, key: bytes, replaces: str) -> Order:
        options = self._options
        self._log_in()
        return self.client.order(options.domains, key, profile=options.profile, replaces=replaces)

    def _log_in(self) -> None:
        options, account = self._options, self._account
        if not account.url:
            eab = _eab(options, account.directory)
            if self.directory.wants_eab and eab is None:
                raise AuthorityError(AuthorityProblem(kind="externalAccountRequired"))
            self._storage.write_account(account)
            url = self.client.register(options.email, eab)
            account = replace(account, url=url, email=options.email)
            self.accepted_terms = self.directory.terms
        self.client.use_account(account.url)
        if account.email != options.email:
            account = self._change_email(account)
        if account != self._account:
            self._storage.write_account(account)
            self._account = account

    def _change_email(self, account: Account) -> Account:
        email = self._options.email
        try:
            self.client.change_email(account.url, email)
        except AuthorityError as error:
            if error.problem.kind == "accountDoesNotExist":
                raise
            # No reason not to renew a certificate; it is tried again at the next order.
            self.email_problem = error.problem
            return account
        return replace(account, email=email)


@contextmanager
def open_session(
    options: AcmeOptions, directory: str, storage: Storage, *, deadline: float
) -> Iterator[Session]:
    """Read a directory; the account is not needed before something is ordered."""
    eab = _eab(options, directory)
    kid = "" if eab is None else eab.kid
    account = storage.read_account(directory, kid)
    if account is None or not is_account_key(account.key):
        key = new_account_key()
        account = Account(directory=directory, url="", key=key, email=options.email, kid=kid)
    trusted = trusted_roots(options.directory_cafile)
    client = AuthorityClient(directory, account.key, trusted=trusted, deadline=deadline)
    try:
        yield Session(client, client.open(), account, storage, options)
    finally:
        client.close()


def _eab(options: AcmeOptions, directory: str) -> ExternalAccount | None:
    # What one authority has given is nothing to another one, such as that for rehearsals.
    return options.eab if directory == options.directory else None
