"""`egec client import`, as used in shell scripts and with spreadsheets."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from tests.conftest import Egec
from tests.processes import disk_with_room_to, run_with
from tests.screens.emulator import see

PROGRAM = [sys.executable, "-m", "egec_cli"]
TABLE = (
    "Courriel;Nom;Prénom;Civilité;N° de dossier;Solde\r\n"
    "jeanne@example.org;Dupont;Jeanne;Madame;D-1;12\r\n"
    "bad@@x;Petit;Marc;M.;D-2;\r\n"
    "zoé@exämple.org;Noël;Zoé;;D-3;\r\n"
)


@pytest.fixture
def table(tmp_path: Path) -> Path:
    """Return a table as French Excel saves it, with one invalid row."""
    path = tmp_path / "clients.csv"
    path.write_bytes(TABLE.encode("cp1252"))
    return path


def listed(egec: Egec) -> list[dict[str, object]]:
    return [json.loads(line) for line in egec("client", "list", "--format", "jsonl").out.splitlines()]


def test_valid_rows_are_imported_and_rejected_ones_reported_and_saved(egec: Egec, table: Path) -> None:
    ended = egec("client", "import", "clients.csv", "--rejects", "rejects.csv", "--format", "json")
    assert ended.code == 3
    assert json.loads(ended.out) == {"created": 2, "updated": 0, "skipped": 0, "rejected": 1, "email_changes": []}
    assert list(json.loads(ended.out)) == ["created", "updated", "skipped", "rejected", "email_changes"]
    told = ended.err.splitlines()[1:]
    assert told[0] == "egec: reading clients.csv as CSV with semicolons, in cp1252"
    assert told[1] == "egec: ignored unknown columns: Solde"
    assert told[2].startswith("egec: clients.csv:3: email: invalid e-mail address 'bad@@x'")
    assert [client["last_name"] for client in listed(egec)] == ["Dupont", "Noël"]
    rejects = Path("rejects.csv")
    assert rejects.stat().st_mode & 0o777 == 0o600
    header, row = rejects.read_bytes().decode("cp1252").splitlines()
    assert header == 'Courriel;Nom;Prénom;Civilité;N° de dossier;Solde;"reason"'
    assert row.startswith('bad@@x;Petit;Marc;M.;D-2;;"email: ')
    corrected = Path("corrected.csv")
    corrected.write_bytes(rejects.read_bytes().replace(b"bad@@x", b"marc@example.org"))
    again = egec("client", "import", "corrected.csv", "--format", "json")
    assert (again.code, json.loads(again.out)["created"]) == (0, 1)


@pytest.mark.parametrize(("arguments", "verb"), [([], "changed"), (["--dry-run"], "would change")])
def test_an_e_mail_replaced_by_an_update_is_reported(
    egec: Egec, tmp_path: Path, arguments: list[str], verb: str
) -> None:
    egec("client", "create", "a@example.org", "--reference", "D-1", "--identifier", "1234567890")
    (tmp_path / "new.csv").write_text("email;reference\nb@example.org;D-1\n")
    told = f"egec: new.csv:2: e-mail of client 1234567890 {verb} from a@example.org to b@example.org"
    for output in ("table", "json") if arguments else ("json",):
        ended = egec("client", "import", "new.csv", "--on-conflict", "update", *arguments, "--format", output)
        assert ended.code == 0
        assert told in ended.err.splitlines()
        if output == "json":
            assert json.loads(ended.out)["email_changes"] == [
                {"line": 2, "identifier": "1234567890", "previous_email": "a@example.org", "email": "b@example.org"}
            ]
        else:
            assert [line.split() for line in ended.out.splitlines()] == [
                ["created", "0"], ["updated", "1", "(1", "with", "another", "e-mail)"], ["unchanged", "0"],
                ["rejected", "0"],
            ]  # fmt: skip


def faulty_table(rows: int) -> str:
    wrong = [f"wrong{number}@@x;M." for number in range(rows)]
    return "\n".join(["courriel;civilité", "good@example.org;M.", *wrong, "a@example.org;Sir", "b@example.org;Lord"])


SUMMARY = [
    "created    1",
    "updated    0",
    "unchanged  0",
    "rejected   32",
    "  30 \u00d7 email: invalid e-mail address …: it has more than one @",
    "   2 \u00d7 civility: unknown civility: … (use one of M., Mme, Mlle, Dr, Pr, Me, Mr, Mrs, Ms, Mx)",
]


def test_the_reasons_are_counted_before_the_rejected_rows(tmp_path: Path) -> None:
    (tmp_path / "faulty.csv").write_text(faulty_table(30))
    done = subprocess.run(
        [*PROGRAM, "client", "import", "faulty.csv"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    assert done.returncode == 3
    _, reading, *summary = done.stdout.splitlines()
    assert reading.startswith("egec: reading faulty.csv")
    assert summary[: len(SUMMARY)] == SUMMARY
    # A pipe gets every row, on one line each.
    reported = summary[len(SUMMARY) :]
    assert [line.partition(" ")[2].partition(": ")[0] for line in reported] == [f"faulty.csv:{n}" for n in range(3, 35)]


def test_a_terminal_gets_the_first_rejected_rows_and_how_to_get_all(tmp_path: Path) -> None:
    (tmp_path / "faulty.csv").write_text(faulty_table(30))
    command = [*PROGRAM, "client", "import", "faulty.csv", "--dry-run"]
    seen = see(command, columns=140, variables={"LC_ALL": "C.UTF-8"})
    assert seen.code == 3
    assert seen.lines[-len(SUMMARY) - 6 : -6] == SUMMARY
    assert [line.split(":")[2] for line in seen.lines[-6:-1]] == ["3", "4", "5", "6", "7"]
    assert seen.lines[-1] == "egec: 27 more rows were rejected; --rejects FILE writes all of them"
    seen = see([*command, "--rejects", "rejects.csv"], columns=140, variables={"LC_ALL": "C.UTF-8"})
    assert seen.lines[-1] == "egec: 27 more rows were rejected; all are in rejects.csv"
    assert len(Path("rejects.csv").read_text().splitlines()) == 33


def test_a_terminal_gets_all_of_a_few_rejected_rows_and_the_most_frequent_reasons(tmp_path: Path) -> None:
    rows = ["email;language;civility", *(f"a{number}@example.org;{'xyz'[number % 3]};" for number in range(6))]
    (tmp_path / "faulty.csv").write_text("\n".join([*rows, "b@example.org;;Sir", "@;;", "c;;", "a\u200b@b.fr;;"]))
    seen = see([*PROGRAM, "client", "import", "faulty.csv", "--dry-run"], columns=140, variables={"LC_ALL": "C.UTF-8"})
    told = [line for line in seen.lines if "\u00d7" in line]
    assert told[0] == "  6 \u00d7 language: unknown language: … (use one of fr, en)"
    assert len(told) <= 6
    assert sum(line.startswith("egec: faulty.csv:") for line in seen.lines) == 10


def test_programs_get_each_rejected_row_when_it_is_read(egec: Egec, tmp_path: Path) -> None:
    (tmp_path / "faulty.csv").write_text(faulty_table(30))
    ended = egec("client", "import", "faulty.csv", "--format", "json")
    assert json.loads(ended.out)["rejected"] == 32
    assert sum(line.startswith("egec: faulty.csv:") for line in ended.err.splitlines()) == 32


@pytest.mark.parametrize("arguments", [["--strict"], ["--strict", "--quiet"]])
def test_a_strict_import_that_fails_reports_the_reasons_and_the_rows(
    egec: Egec, tmp_path: Path, arguments: list[str]
) -> None:
    (tmp_path / "faulty.csv").write_text(faulty_table(3))
    ended = egec("client", "import", "faulty.csv", *arguments)
    assert (ended.code, ended.out) == (65, "")
    told = [line for line in ended.err.splitlines() if line.startswith("egec: ")][-8:]
    assert told[0].startswith("egec: 3 \u00d7 email: invalid e-mail address …")
    assert told[1].startswith("egec: 2 \u00d7 civility")
    assert [line.split(":")[2] for line in told[2:7]] == ["3", "4", "5", "6", "7"]
    assert told[7] == "egec: 5 rows were rejected, so nothing was imported"


def test_what_is_exported_as_json_can_be_imported(egec: Egec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    egec("client", "create", "zoé@example.org", "--last-name", "L'Été", "--reference", "D-1")
    egec("client", "create", "a@example.org")
    clients = listed(egec)
    assert egec("client", "export", "--format", "json", "--output", "all.json").code == 0
    monkeypatch.setenv("EGEC_DATABASE_URL", f"sqlite:///{tmp_path}/other.db")
    assert egec("init").code == 0
    ended = egec("client", "import", "all.json")
    assert ended.code == 0
    assert "reading all.json as a JSON list, in utf-8" in ended.err
    assert listed(egec) == clients
    assert egec("client", "import", "all.json", "--input", "json", "--strict").code == 0


def test_rejected_elements_of_a_json_list_can_be_corrected_and_imported(egec: Egec, tmp_path: Path) -> None:
    (tmp_path / "clients.json").write_text('[{"email": "a@example.org"},\n{"email": "b@@x",\n"nom": "Été"}, 7]')
    ended = egec("client", "import", "clients.json", "--rejects", "rejects.jsonl")
    assert ended.code == 3
    rejects = Path("rejects.jsonl").read_text().splitlines()
    assert json.loads(rejects[0])["nom"] == "Été"
    assert json.loads(rejects[1]) == {"reason": "it is not a JSON object", "row": "7"}
    Path("rejects.jsonl").write_text(rejects[0].replace("b@@x", "b@example.org"))
    assert egec("client", "import", "rejects.jsonl").code == 0
    assert [client["last_name"] for client in listed(egec)] == ["", "Été"]


def test_a_broken_json_list_is_refused(egec: Egec, tmp_path: Path) -> None:
    (tmp_path / "clients.json").write_text('[{"email": "a@example.org"},\n{"email": ')
    ended = egec("client", "import", "clients.json")
    assert ended.code == 65
    assert "egec: clients.json:2: it is not valid JSON" in ended.err


def test_a_second_row_with_the_same_reference_is_rejected(egec: Egec, tmp_path: Path) -> None:
    (tmp_path / "twice.csv").write_text("email;reference\na@example.org;D-1\nb@example.org;D-1\n")
    ended = egec("client", "import", "twice.csv", "--rejects", "rejects.csv")
    assert ended.code == 3
    assert "egec: twice.csv:3: reference 'D-1': already used in line 2 with different data" in ended.err.splitlines()
    assert Path("rejects.csv").read_text().splitlines()[1] == (
        "b@example.org;D-1;\"reference 'D-1': already used in line 2 with different data\""
    )


def test_standard_input_is_imported_too(egec_process: Egec) -> None:
    ended = egec_process(
        "client", "import", "-", "--format", "json", stdin='{"email": "a@example.org", "nom": "Petit"}\n'
    )
    assert (ended.code, json.loads(ended.out)["created"]) == (0, 1)
    assert "reading standard input as JSON Lines, in utf-8" in ended.err


def test_detected_properties_can_be_given_as_options(egec: Egec, tmp_path: Path) -> None:
    (tmp_path / "odd.txt").write_bytes("Ligne;Adresse\n1;jeanne@example.org\n".replace(";", "|").encode("utf-16-be"))
    arguments = ["--map", "Adresse=email", "--encoding", "utf-16-be", "--delimiter", "|", "--input", "csv"]
    assert egec("client", "import", "odd.txt", *arguments).code == 0
    assert [client["email"] for client in listed(egec)] == ["jeanne@example.org"]


@pytest.mark.parametrize(
    ("arguments", "code", "told"),
    [
        (["nowhere.csv"], 74, "nowhere.csv: no such file"),
        (["clients.csv", "--map", "x"], 2, "is not of the form COLUMN=FIELD"),
        (["clients.csv", "--map", "Solde=balance"], 2, "--map 'Solde=balance': unknown field 'balance'"),
        (["clients.csv", "--map", "Solde=balance"], 2, "The fields are: civility, created_at, disabled_at, email"),
        (
            ["clients.csv", "--map", "Ville=reference"],
            65,
            "clients.csv has no column 'Ville'; its columns are: Courriel",
        ),
        (["clients.csv", "--rejects", "nowhere/rejects.csv"], 74, "nowhere/rejects.csv cannot be created"),
        (["clients.csv", "--delimiter", ";;"], 2, "is not one character"),
        (["clients.csv", "--encoding", "klingon"], 65, "unknown encoding: 'klingon'"),
        (["clients.csv", "--on-conflict", "merge"], 2, "merge"),
        (["clients.csv", "--rejects", "clients.csv"], 73, "clients.csv already exists"),
        (["clients.csv", "--strict"], 65, "1 row was rejected, so nothing was imported"),
    ],
)
def test_an_invalid_import_is_refused_and_changes_nothing(
    egec: Egec, table: Path, arguments: list[str], code: int, told: str
) -> None:
    ended = egec("client", "import", *arguments)
    assert ended.code == code
    assert told in ended.err
    assert listed(egec) == []
    assert table.read_bytes() == TABLE.encode("cp1252")


def test_without_rejected_rows_no_file_of_rejects_is_left(egec: Egec, tmp_path: Path) -> None:
    (tmp_path / "good.csv").write_text("email\na@example.org\n")
    before = set(tmp_path.iterdir())
    assert egec("client", "import", "good.csv", "--rejects", "rejects.csv").code == 0
    assert {path.name for path in set(tmp_path.iterdir()) - before} == {"data"}


def test_a_dry_run_changes_nothing(egec: Egec, table: Path) -> None:
    ended = egec("client", "import", "clients.csv", "--dry-run", "--format", "json")
    assert (ended.code, json.loads(ended.out)["created"]) == (3, 2)
    assert "egec: nothing was changed" in ended.err
    assert listed(egec) == []


def big_table(path: Path, rows: int) -> None:
    path.write_text("email;nom\n" + "".join(f"c{number}@example.org;Nom {number}\n" for number in range(rows)))


def test_a_killed_import_can_be_repeated_with_the_same_result(egec: Egec, tmp_path: Path) -> None:
    big_table(tmp_path / "big.csv", 40_000)
    egec("init")
    with subprocess.Popen([*PROGRAM, "client", "import", "big.csv"], stdout=subprocess.DEVNULL) as process:
        deadline = time.monotonic() + 30
        while not egec("client", "list", "--limit", "1", "--format", "ids").out and time.monotonic() < deadline:
            time.sleep(0.01)
        process.kill()
    before = len(listed(egec))
    assert before > 0
    again = egec("client", "import", "big.csv", "--format", "json")
    assert again.code == 0
    assert json.loads(again.out) == {
        "created": 40_000 - before, "updated": 0, "skipped": before, "rejected": 0, "email_changes": [],
    }  # fmt: skip
    assert len({client["email"] for client in listed(egec)}) == 40_000


def test_an_interrupted_import_ends_with_130_and_leaves_whole_rows(egec: Egec, tmp_path: Path) -> None:
    reader, writer = os.pipe()
    with subprocess.Popen([*PROGRAM, "client", "import", "-"], stdin=reader, stderr=subprocess.PIPE) as process:
        os.close(reader)
        os.write(writer, b"email\na@example.org\n")
        timer = threading.Timer(1.0, lambda: process.send_signal(signal.SIGINT))
        timer.start()
        _, err = process.communicate(timeout=60)
    os.close(writer)
    assert process.returncode == 130
    assert b"Nothing was lost" in err
    assert listed(egec) == []


def test_a_full_disk_is_reported_and_the_import_can_be_repeated(egec: Egec, tmp_path: Path) -> None:
    egec("init")
    big_table(tmp_path / "big.csv", 20_000)
    ended = run_with([disk_with_room_to(600_000)], "client", "import", "big.csv", "--format", "json")
    assert ended.code == 74
    again = egec("client", "import", "big.csv", "--format", "json")
    assert again.code == 0
    counted = json.loads(again.out)
    assert counted.pop("email_changes") == []
    assert sum(counted.values()) == 20_000
    assert len(listed(egec)) == 20_000


def test_a_value_cannot_control_the_terminal(egec: Egec, tmp_path: Path) -> None:
    (tmp_path / "hostile.csv").write_text("email;nom\n\x1b]0;title\x07@x;[red]\u202e\n")
    ended = egec("client", "import", "hostile.csv")
    assert ended.code == 3
    assert not any(character in ended.err for character in "\x1b\x07\u202e")
