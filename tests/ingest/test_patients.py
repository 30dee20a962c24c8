"""The patients of a cohort: scans of one patient never lie in two splits."""

import tempfile
import unicodedata
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from components.ct.cases import Case, read_cases, write_cases
from components.ingest.cohort_folder import list_files
from components.ingest.naming import Naming
from components.ingest.patients import assign_patients, find_patient_table
from components.runtime.errors import CohortError
from components.slice.split import require_patients_apart, split_by_patient

PEOPLE = (
    "anna",
    "Jörg Müller",
    "p-07",
    "José Núñez",
    "Straße",
    "李 雷",
    "Åse",
    "İpek",
    "O'Neil, Pat",
    "0012",
    "case_3",
)
SPELLINGS = {
    "as it is": str,
    "upper case": str.upper,
    "title": str.title,
    "decomposed": lambda name: unicodedata.normalize("NFD", name),
    "spaces around": lambda name: f"  {name} ",
    "tab": lambda name: f"\t{name}",
    "two spaces": lambda name: name.replace(" ", "  "),
    "no-break space": lambda name: name.replace(" ", "\u00a0") + "\u00a0",
    "control character": lambda name: f"{name}\x00",
    "zero-width space": lambda name: f"\u200b{name}\ufeff",
    # Default_Ignorable_Code_Point of DerivedCoreProperties.txt (Unicode): its categories are Cf, Mn, Lo and Cn
    "invisible letters": lambda name: f"\u3164\u115f{name}\u1160\uffa0\u034f",
    "variation selectors": lambda name: f"{name}\ufe0f\U000e0100\u180b\u2065\u17b4",
    "full width": lambda name: "".join(chr(ord(c) + 0xFEE0) if "!" <= c <= "~" else c for c in name),
}
ENCODINGS = st.sampled_from([("utf-8", ","), ("utf-8-sig", ","), ("utf-8", ";"), ("utf-8-sig", "\t"), ("utf-8", "|")])
HEADERS = st.sampled_from(
    [("case_id", "patient_id"), ("Case ID", " PATIENT_ID"), ("case", "Patient"), ("CaseId", "patient-id")]
)
NAMES = st.sampled_from(PEOPLE) | st.text(st.characters(categories=("L", "N")), min_size=1, max_size=6)


def patients(folder, text, cases=("a", "b", "c"), encoding="utf-8", name="patients.csv"):
    """Assign patients from a table with the content `text`."""
    (folder / name).write_bytes(text if isinstance(text, bytes) else text.encode(encoding))
    return assign_patients(cases, folder / find_patient_table("source", list_files(folder)))


@settings(deadline=None)
@given(st.lists(st.tuples(NAMES, st.sampled_from(sorted(SPELLINGS))), min_size=6, max_size=14), ENCODINGS, HEADERS)
def test_scans_of_one_patient_never_part_however_the_patient_is_spelled(rows, encoding, header):
    encoding, separator = encoding
    quoted = ['"' + SPELLINGS[spelling](name) + '"' for name, spelling in rows]
    table = [
        separator.join(header),
        *(f"case_{k}{separator}{patient}" for k, patient in enumerate(quoted)),
        "",
        separator,
    ]
    case_ids = [f"case_{k}" for k in range(len(rows) + 2)]  # two are not listed
    with tempfile.TemporaryDirectory() as folder:
        patient_of = patients(Path(folder), "\r\n".join(table), case_ids, encoding)
        for naming in (Naming(), Naming(b"0123456789abcdef")):
            cases = [Case(c, naming.patient_id(patient_of[c]), "x", c, c, "hu", "", "") for c in case_ids]
            write_cases(Path(folder), cases)
            assert len({case.patient_id for case in read_cases(Path(folder))}) == len({*patient_of.values()})
            person = {f"case_{k}": unicodedata.normalize("NFKC", name).casefold() for k, (name, _) in enumerate(rows)}
            truth = [Case(c, person.get(c, c), "x", c, c, "hu", "", "") for c in case_ids]
            if len({*patient_of.values()}) >= 3:
                for seed in range(8):
                    require_patients_apart(truth, split_by_patient(cases, dict.fromkeys(case_ids, 0.1), seed))


def test_a_table_of_cases_that_spells_a_patient_in_two_ways_keeps_the_scans_together(tmp_path):
    rows = [
        Case(str(k), patient, "x", "s", "m", "hu", "", "")
        for k, patient in enumerate(["Anna", "anna ", "A\u0308", "Ä"])
    ]
    write_cases(tmp_path, rows)
    assert [case.patient_id for case in read_cases(tmp_path)] == ["Anna", "Anna", "Ä", "Ä"]
    write_cases(tmp_path, [Case("1", " ", "x", "s", "m", "hu", "", "")])
    with pytest.raises(CohortError, match=r"cases\.csv: .*patient"):
        read_cases(tmp_path)


@pytest.mark.parametrize("key", [None, b"0123456789abcdef"])
@pytest.mark.parametrize("patient", ["c", "C", " c"])
def test_a_patient_named_like_a_case_is_the_patient_of_that_case(tmp_path, key, patient):
    patient_of = patients(tmp_path, f"case_id,patient_id\na,{patient}\n")
    a, b, c = (Naming(key).patient_id(patient_of[case]) for case in "abc")
    assert a == c != b


@pytest.mark.parametrize("name", ["patients.csv", "Patients.CSV", "PATIENTS.csv", " patients.csv"])
def test_the_name_of_the_table_may_have_any_case(tmp_path, name):
    assert patients(tmp_path, "case_id,patient_id\na,p\nb,p\n", name=name)["b"] == "p"


@pytest.mark.parametrize(
    "name",
    [
        *("patients.txt", "patient.csv", "patients (1).csv", "Patients.xlsx", "scans/patients.csv", "patients.csv.txt"),
        *("patients - Copy.csv", "patients_2.ods", "patients.json", "scans/Patients.TSV", "patients"),
    ],
)
def test_a_table_with_another_name_is_refused(tmp_path, name):
    (tmp_path / "scans").mkdir()
    with pytest.raises(CohortError, match=r"expected .*patients\.csv"):
        patients(tmp_path, "case_id,patient_id\na,p\nb,p\n", name=name)


@pytest.mark.parametrize(
    "name",
    [
        *(
            "scans/patient_1.json",
            "scans/Patient1.json",
            "scans/patient_1.txt",
            "scans/patient (1).csv",
            "patient-01.pdf",
        ),
        *("scans/patient_1/0001.dcm", "scans/patient/1.txt", "scans/patients/001.csv", "scans/Patients 1/1.2.840.113"),
        *("scans/patients.nii.gz", "masks/patient_1.nrrd", "patients/readme.txt", "patients.csv/", "~$patients.xlsx"),
    ],
)
def test_a_file_of_a_scan_is_no_table(name):
    assert find_patient_table("source", [name]) is None
    assert find_patient_table("source", [name, "patients.csv"]) == "patients.csv"


def test_a_table_that_cannot_be_opened_is_refused(tmp_path):
    (tmp_path / "patients.csv").symlink_to(tmp_path / "missing")
    with pytest.raises(CohortError, match=r"patients\.csv: cannot be read \(No such file"):
        assign_patients(["a"], tmp_path / "patients.csv")


def test_two_tables_are_refused(tmp_path):
    (tmp_path / "patients.csv").touch()
    with pytest.raises(CohortError, match=r"Patients\.CSV and patients\.csv"):
        patients(tmp_path, "case_id,patient_id\na,p\nb,p\n", name="Patients.CSV")


def test_the_patients_of_the_20_case_set_are_known(tmp_path):
    cases = ["radiopaedia_10_85902_1", "radiopaedia_10_85902_3", "radiopaedia_29_86490_1", "Radiopaedia_29_86491_1"]
    found = assign_patients([*cases, "radiopaedia_36_86526_0"], None)
    assert found[cases[0]] == found[cases[1]] != found[cases[2]] == found[cases[3]]
    assert found["radiopaedia_36_86526_0"] == "radiopaedia_36_86526_0"
    # The table renames a known patient; it parts the scans only if it lists both.
    found = patients(tmp_path, "case_id,patient_id\nradiopaedia_10_85902_1,p2\n", cases)
    assert found[cases[0]] == found[cases[1]] == "p2"
    found = patients(tmp_path, "case_id,patient_id\nradiopaedia_10_85902_1,p2\nradiopaedia_10_85902_3,p3\n", cases)
    assert found[cases[0]] != found[cases[1]]


def test_the_table_may_name_files_and_repeat_itself(tmp_path):
    text = "\ufeff\n\ncase_id,age,patient_id\na,60,p1\nB_ct.nii.gz,,p1\nmu\u0308ller_mask.nii,,p1\na,61,P1,,\n,,\n"
    case = "muller-2dbd2180"  # parse_case_id("müller.nii")
    assert patients(tmp_path, text, ["a", "b", "c", case]) == {"a": "p1", "b": "p1", "c": "c", case: "p1"}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"case_id,patient_id\na,p\nx,p\n", "1 case without a scan, line 3"),
        (b"case_id,patient_id\na,p\nx,p\ny,p\n", "2 cases without a scan, lines 3, 4"),
        (b"case_id,patient_id\na,\n", "line 2 .*case_id.*patient_id"),
        (b"case_id,patient_id\na, \t\n", "line 2 .*case_id.*patient_id"),
        (b"case_id,patient_id\na\n", "line 2 .*case_id.*patient_id"),
        (b"name,sex\na,p\n", "line 1 .*case_id,patient_id"),
        (b"a,p\nb,p\n", "line 1 .*case_id,patient_id"),
        (b"", "line 1 .*case_id,patient_id"),
        (b"case_id,patient_id,patient_id\na,p,q\n", "line 1 .*case_id,patient_id"),
        (b"case_id,patient_id\na,Meier, Hans\n", "line 2 .*3 columns.*quot"),
        (b"case_id,patient_id\na;p\n", "line 2"),
        (b'case_id,patient_id\na,"p\n', "quot"),
        (b"case_id,patient_id\na,anna\nb,x\nA,bob\n", "lines 2 and 4 .*two patients"),
        (b"\xff\xfe\x00", ".*UTF-8"),
        (b"\n\nname,sex\n", "line 3 .*case_id,patient_id"),
        (b"case_id,patient_id\na,M\xfcller\n", ".*UTF-8"),
    ],
)
def test_an_invalid_table_is_refused_without_names(tmp_path, content, message):
    with pytest.raises(CohortError, match=rf"patients\.csv: {message}") as error:
        patients(tmp_path, content)
    assert not any(name in str(error.value).split(": ", 1)[1] for name in ("anna", "bob", "Meier"))


@pytest.mark.parametrize(
    "text",
    [
        "sep=;\r\ncase_id;patient_id\r\na;p, 1\r\nb;p, 1\r\n",  # Excel's own first line
        '\ufeff"SEP=,"\n"case_id","patient_id"\na,"p, 1"\nb,"p, 1"\n',
        "sep=|\n\ncase_id;patient_id\na;p, 1\nb;p, 1\n",
        "case_id;patient_id;age, years, sex\na;p, 1;6\nb;p, 1;6\n",
        "age, sex, site, note\tpatient\tCase\n6\tp, 1\ta\n6\tp, 1\tb\n",
        "case_id|patient_id|a;b;c;d\na|p, 1\nb|p, 1\n",
    ],
)
def test_the_separator_is_the_one_that_gives_both_columns(tmp_path, text):
    assert patients(tmp_path, text) == {"a": "p, 1", "b": "p, 1", "c": "c"}


@pytest.mark.parametrize(
    "names",
    [
        *(("p-1", "p1"), ("p01", "p1"), ("José", "jose"), ("anna.", "anna"), ("b c", "b_c")),
        *(("1.0", "1"), ("007", "7.00"), ("٣", "3"), ("p٣", "P-3"), ("1.23E+11", "123000000000")),  # pandas, Excel
    ],
)
def test_nearly_identical_patients_are_reported(tmp_path, caplog, names):
    patients(tmp_path, "case_id,patient_id\na,{}\nb,{}\nc,other\n".format(*names))
    (line,) = caplog.messages
    assert "lines 2 and 3" in line


def test_different_patients_are_not_reported(tmp_path, caplog):
    assert len({*patients(tmp_path, "case_id,patient_id\na,1-23\nb,12-3\nc,1.5\n").values()}) == 3
    assert caplog.messages == []
