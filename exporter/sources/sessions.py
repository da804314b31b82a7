"""How an AWS account is reached: profile or default credential chain, then perhaps a role in another account.

It opens sessions and clients with explicit limits (timeouts, connections, no hidden retries) and never reads or keeps
a credential itself. Endpoint overrides (`AWS_ENDPOINT_URL_CLOUDWATCH_LOGS`, `AWS_ENDPOINT_URL`), proxies and CA
bundles come from the standard variables and files; botocore reads them.
"""

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import boto3
from botocore.config import Config
from botocore.credentials import (
    AssumeRoleCredentialFetcher,
    CredentialProvider,
    DeferredRefreshableCredentials,
)
from botocore.exceptions import CredentialRetrievalError, NoCredentialsError
from botocore.loaders import Loader
from botocore.session import Session as BotocoreSession

if TYPE_CHECKING:
    from mypy_boto3_logs import CloudWatchLogsClient

CONNECT_TIMEOUT_SECONDS = 5
READ_TIMEOUT_SECONDS = 30
_ROLE_SESSION_NAME = "apigateway-exporter"


@dataclass(frozen=True, kw_only=True, slots=True)
class AccountAccess:
    """How to reach one account. All None: the default credential chain and its own account."""

    profile: str | None = None
    """A profile of the AWS configuration files; also the source of the credentials that `role_arn` is assumed with."""
    role_arn: str | None = None
    external_id: str | None = None


def open_session(access: AccountAccess, region: str) -> boto3.Session:
    """A session in `region` whose credentials renew themselves.

    All sessions share what they know of AWS's services. Raises botocore's `ProfileNotFound` for a profile that does
    not exist; a role that cannot be assumed shows on the first call only.
    """
    session = _source_session(access.profile, region)
    if access.role_arn is not None:
        # The role's credentials go before all others of this session; those it is assumed with stay in one of its own.
        source = _source_session(access.profile, region)
        _share_models(source)
        assumed = _AssumedRole(source, access.role_arn, access.external_id)
        session.get_component("credential_provider").providers.insert(0, assumed)
    opened = boto3.Session(botocore_session=session)
    _share_models(session)  # after boto3, which adds to the search paths of what it finds
    return opened


def logs_client(session: boto3.Session, *, max_connections: int) -> "CloudWatchLogsClient":
    """A CloudWatch Logs client that tries every call once; safe to share between `max_connections` threads."""
    return session.client("logs", config=client_config(max_connections=max_connections))


def client_config(*, max_connections: int) -> Config:
    """The settings of every client whose caller does its own retries, counts its calls and asks the budget first."""
    return Config(
        connect_timeout=CONNECT_TIMEOUT_SECONDS,
        read_timeout=READ_TIMEOUT_SECONDS,
        retries={"mode": "standard", "total_max_attempts": 1},
        max_pool_connections=max_connections,
        tcp_keepalive=True,
    )


class _Models(Loader):
    """botocore's models of services and endpoints, read by the first session that needs them and kept for all.

    They are nine megabytes of objects and a tenth of a second for each session that reads its own.
    """

    def __init__(self) -> None:
        super().__init__()
        self._reading = threading.RLock()

    def load_service_model(self, service_name: str, type_name: str, api_version: str | None = None) -> Any:
        """See `Loader`; sessions that ask at the same time wait for one reading."""
        with self._reading:
            return super().load_service_model(service_name, type_name, api_version)

    def load_data_with_path(self, name: str) -> Any:
        """See `Loader`."""
        with self._reading:
            return super().load_data_with_path(name)


_models = _Models()


def _share_models(session: BotocoreSession) -> None:
    """Make clients of `session` by the shared models, unless the user's configuration names others."""
    if session.get_config_variable("data_path") is None:
        session.register_component("data_loader", _models)


def _source_session(profile: str | None, region: str) -> BotocoreSession:
    session = BotocoreSession(profile=profile)
    session.set_config_variable("region", region)
    # For the clients that botocore makes itself on the way to credentials (STS, SSO): without this they would hold a
    # watch for minutes. The mode is explicit because botocore's default is about to change.
    session.set_default_client_config(
        Config(
            connect_timeout=CONNECT_TIMEOUT_SECONDS,
            read_timeout=READ_TIMEOUT_SECONDS,
            retries={"mode": "standard", "total_max_attempts": 3},
        )
    )
    return session


class _AssumedRole(CredentialProvider):
    """A role's credentials, assumed when first needed and again before they expire."""

    METHOD = "assume-role"

    def __init__(self, source: BotocoreSession, role_arn: str, external_id: str | None) -> None:
        super().__init__(session=source)
        self._source = source
        self._role_arn = role_arn
        self._external_id = external_id

    def load(self) -> DeferredRefreshableCredentials:
        """Credentials that have not asked STS yet."""
        return DeferredRefreshableCredentials(method=self.METHOD, refresh_using=self._assumer())

    def _assumer(self) -> Callable[[], Mapping[str, str]]:
        def assume() -> Mapping[str, str]:
            credentials = self._source.get_credentials()
            if credentials is None:
                raise NoCredentialsError
            request = {"RoleSessionName": _ROLE_SESSION_NAME}
            if self._external_id is not None:
                request["ExternalId"] = self._external_id
            fetcher = AssumeRoleCredentialFetcher(
                self._source.create_client, credentials, self._role_arn, extra_args=request
            )
            assumed: Mapping[str, str] = fetcher.fetch_credentials()
            if datetime.fromisoformat(assumed["expiry_time"]) <= datetime.now(UTC):
                raise CredentialRetrievalError(
                    provider=self.METHOD, error_msg="they came already expired; is this machine's clock right?"
                )
            return assumed

        return assume
