"""The Python interface, on both databases, with a real mail server, from one thread and from several."""

from concurrent.futures import ThreadPoolExecutor

import pytest

from egec_cli import api
from egec_cli.settings.types import Database
from tests.activations import letters
from tests.smtp_server import Fault, MailServer


@pytest.mark.usefixtures("location")
def test_a_client_is_created_mailed_found_and_signs_in(server: MailServer) -> None:
    with api.open_context() as context:
        created = api.create_client(context, "jeanne@example.org", civility="Mme", last_name="Dupont")
        issued = api.issue_by_mail(context, created.identifier)
        _, identifier, password = letters(server)[0]
        assert (issued.identifier, issued.state) == (created.identifier, "accepted")
        assert identifier == created.identifier
        assert api.verify_login(context, identifier, password)
        assert not api.verify_login(context, identifier, password.swapcase())
        assert api.find_client(context, "jeanne@example.org").status == "active"


@pytest.mark.usefixtures("location")
def test_an_existing_client_is_returned_unchanged_only_if_asked_for() -> None:
    with api.open_context() as context:
        created = api.create_client(context, "jeanne@example.org", reference="A-1")
        assert api.create_client(context, "JEANNE@example.org", last_name="X", if_missing=True) == created
        with pytest.raises(api.AlreadyExists):
            api.create_client(context, "jeanne@example.org")
        assert api.find_client(context, "ref:A-1") == created


@pytest.mark.usefixtures("location")
def test_a_password_shown_to_the_operator_replaces_the_earlier_one() -> None:
    shown: list[api.NewPassword] = []
    with api.open_context() as context:
        client = api.create_client(context, "jeanne@example.org").identifier
        for _ in range(2):
            api.issue_to_operator(context, client, shown.append)
        earlier, later = (one.password.reveal() for one in shown)
        assert not api.verify_login(context, client, earlier)
        assert api.verify_login(context, client, later)


@pytest.mark.usefixtures("location")
def test_errors_carry_the_code_and_the_exit_code_of_the_command_line(server: MailServer) -> None:
    server.fail_always(Fault.RCPT_451)
    with api.open_context() as context:
        with pytest.raises(api.ClientNotFound) as missing:
            api.find_client(context, "nobody@example.org")
        with pytest.raises(api.InvalidInput) as invalid:
            api.create_client(context, "nobody")
        api.create_client(context, "jeanne@example.org")
        with pytest.raises(api.TemporaryFailure) as refused:
            api.issue_by_mail(context, "jeanne@example.org")
    assert [error.value.exit_code for error in (missing, invalid, refused)] == [67, 65, 75]


@pytest.mark.usefixtures("location")
def test_threads_share_a_context_and_each_call_uses_a_connection_of_its_thread() -> None:
    shown: list[api.NewPassword] = []
    with api.open_context() as context:
        client = api.create_client(context, "jeanne@example.org").identifier
        api.issue_to_operator(context, client, shown.append)
        password = shown[0].password.reveal()

        def is_right(typed: str) -> bool:
            accepted = api.verify_login(context, client, typed)
            assert context.database.is_closed()
            return accepted

        with ThreadPoolExecutor(4) as pool:
            assert list(pool.map(is_right, [password, "wrong", password, "wrong"])) == [True, False, True, False]


def test_a_missing_database_is_created_only_if_asked_for(location: Database) -> None:
    environ = {"EGEC_DATABASE_URL": "sqlite:///other.db"}
    with pytest.raises(api.ConfigError), api.open_context(environ):
        pass
    with api.open_context(environ, create=True) as context:
        assert api.create_client(context, "jeanne@example.org").status == "new"


def test_every_public_name_exists_and_is_documented() -> None:
    functions = [getattr(api, name) for name in api.__all__ if name.islower()]
    assert all(function.__doc__ for function in functions)
