import pytest

from shared.domain.course_run import CourseRun, availability, course_run_id, course_uuid, is_uuid, stored_json

NOW = "2026-03-01T12:00:00Z"


@pytest.mark.parametrize(
    ("start_date", "end_date", "expected"),
    [
        (None, None, "Upcoming"),
        ("2026-03-01T12:00:01Z", None, "Upcoming"),
        ("2026-03-01T12:00:00Z", None, "Current"),
        ("2026-02-01T00:00:00Z", "2026-03-01T12:00:01Z", "Current"),
        ("2026-02-01T00:00:00Z", "3000-01-01T00:00:00Z", "Current"),
        (None, "2026-03-01T12:00:01Z", "Upcoming"),
        ("2026-02-01T00:00:00Z", "2026-03-01T12:00:00Z", None),
        ("2026-02-01T00:00:00Z", "2026-02-02T00:00:00Z", None),
        ("2026-04-01T00:00:00Z", "2026-02-02T00:00:00Z", None),
        (None, "0999-12-31T00:00:00Z", None),
    ],
)
def test_availability_follows_the_dates(
    start_date: str | None, end_date: str | None, expected: str | None
) -> None:
    assert availability(start_date, end_date, NOW) == expected


def test_stored_json_has_contract_names_and_leaves_out_the_unknown_and_availability() -> None:
    run = CourseRun(
        id="c2b7a0f4-1f60-5b0e-8a51-3b7a5c1d2e3f",
        courserun_key="course-v1:NUSx+É1+2026",
        weeks_to_complete=0,
        availability="Current",
    )
    assert (
        stored_json(run)
        == (
            '{"id":"c2b7a0f4-1f60-5b0e-8a51-3b7a5c1d2e3f",'
            '"courserunKey":"course-v1:NUSx+É1+2026","weeksToComplete":0}'
        ).encode()
    )


def test_a_stored_run_reads_back_as_the_same_run() -> None:
    run = CourseRun(id="c2b7a0f4-1f60-5b0e-8a51-3b7a5c1d2e3f", courserun_key="k", price="1.00")
    assert CourseRun.model_validate_json(stored_json(run)) == run


def test_ids_are_uuid5_of_the_course_url() -> None:
    assert course_run_id("course-v1:MITx+6.00.1x+2T2026") == "87846107-6901-5831-8e19-e646fbf6845c"
    assert course_uuid("MITx+6.00.1x") == "1fa3dd26-5083-5035-ab5f-c2804a417af8"


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("2f0f1b0c-3a58-4d0e-9d2b-6a6d5a1f7c11", True),
        ("2F0F1B0C-3A58-4D0E-9D2B-6A6D5A1F7C11", True),
        ("00000000-0000-0000-0000-000000000000", True),
        ("2f0f1b0c3a584d0e9d2b6a6d5a1f7c11", False),
        ("{2f0f1b0c-3a58-4d0e-9d2b-6a6d5a1f7c11}", False),
        ("urn:uuid:2f0f1b0c-3a58-4d0e-9d2b-6a6d5a1f7c11", False),
        ("2f0f1b0c-3a58-4d0e-9d2b-6a6d5a1f7c1g", False),
        ("٢f0f1b0c-3a58-4d0e-9d2b-6a6d5a1f7c11", False),
        ("2f0f1b0c-3a58-4d0e-9d2b-6a6d5a1f7c11\n", False),
        ("", False),
        (None, False),
        (7, False),
    ],
)
def test_is_uuid_accepts_only_the_plain_text_form(value: object, *, expected: bool) -> None:
    assert is_uuid(value) is expected
