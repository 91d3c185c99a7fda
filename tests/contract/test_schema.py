import json
from datetime import UTC, datetime
from typing import Any

import pytest
from jsonschema import ValidationError

from shared.domain.course_run import CourseRun, MappedRun, stored_json
from shared.edx.mapping import map_course
from shared.edx.models import EdxCourse
from shared.settings import MappingSettings
from tests.builders import MAKE_RUN_SERVED, make_course, make_run, make_seat
from tests.contract.schema import CONTRACT

RULES = MappingSettings()
NOW = datetime(2026, 3, 1, 12, 0, 0, tzinfo=UTC)


def served(course: dict[str, Any]) -> list[dict[str, Any]]:
    results = list(map_course(EdxCourse.model_validate(course), RULES, NOW))
    assert all(isinstance(result, MappedRun) for result in results)
    return [json.loads(stored_json(result.run)) for result in results if isinstance(result, MappedRun)]


def test_a_mapped_run_has_every_documented_field_but_availability_when_edx_sends_everything() -> None:
    (run,) = served(make_course())
    CONTRACT.validate(run)
    assert run == {
        "id": "87846107-6901-5831-8e19-e646fbf6845c",
        "courserunKey": "course-v1:MITx+6.00.1x+2T2026",
        **MAKE_RUN_SERVED,
    }


def test_a_mapped_run_has_four_fields_when_edx_sends_only_a_key() -> None:
    (run,) = served({"key": "DelftX+CTB3300WCx", "course_runs": [{"key": "DelftX/CTB3300WCx/2T2014"}]})
    CONTRACT.validate(run)
    assert run == {
        "id": "cd3699dd-ff6b-5890-a54b-d353c77cf569",
        "courserunKey": "DelftX/CTB3300WCx/2T2014",
        "uuid": "3705b381-e5ff-5a3a-98e4-4031ac24d126",
        "enrollmentUrl": "https://courses.edx.org/course_modes/choose/DelftX%2FCTB3300WCx%2F2T2014/",
    }


@pytest.mark.parametrize(
    ("course", "differs"),
    [
        # In production, 2019: no course_uuid, dates in the past, the most expensive seat first.
        (
            make_course(
                make_run(
                    key="course-v1:ExampleX+15.07x+1T2019",
                    course_uuid=None,
                    start="2019-02-20T15:00:00Z",
                    end="2019-05-22T23:30:00Z",
                    min_effort=10,
                    max_effort=15,
                    weeks_to_complete=13,
                    seats=[make_seat(), make_seat(type="audit", price="0.00")],
                )
            ),
            {"price": "150.00", "type": "verified", "modularCredit": 5, "weeksToComplete": 13},
        ),
        # A retired run: the minimum effort is above the maximum, no weeks, no seats, no type.
        (
            make_course(
                make_run(
                    start="2018-04-09T15:00:00Z",
                    end="2018-05-11T23:30:00Z",
                    min_effort=7,
                    max_effort=5,
                    weeks_to_complete=None,
                    status="unpublished",
                    type=None,
                    seats=[],
                )
            ),
            {"minEffort": 7, "maxEffort": 5, "weeksToComplete": 5, "modularCredit": None, "type": None},
        ),
        # The Open Learning Library: self-paced, nothing but dates.
        (
            make_course(
                make_run(
                    start="2019-04-01T00:00:00Z",
                    end="2019-07-01T00:00:00Z",
                    min_effort=None,
                    max_effort=None,
                    weeks_to_complete=None,
                    pacing_type="self_paced",
                    seats=[],
                    type=None,
                ),
                marketing_url=None,
            ),
            {"pacingType": "self-paced", "weeksToComplete": None, "minEffort": None, "price": None},
        ),
        # Executive education on staging: a track and a seat that the contract does not know.
        (
            make_course(
                make_run(
                    enrollment_url="https://courses.example.org/enterprise/4a3d/course/enroll/?catalog=1236",
                    seats=[make_seat(type="unpaid-executive-education", price="0.00")],
                    type=None,
                )
            ),
            {
                "type": None,
                "price": None,
                "enrollmentUrl": "https://courses.example.org/enterprise/4a3d/course/enroll/?catalog=1236",
            },
        ),
    ],
)
def test_structures_seen_in_production_follow_the_contract(
    course: dict[str, Any], differs: dict[str, object]
) -> None:
    (run,) = served(course)
    CONTRACT.validate(run)
    assert {field: run.get(field) for field in differs} == differs


def test_the_model_documents_what_the_contract_documents() -> None:
    documented = CONTRACT.schema["properties"]
    generated = CourseRun.model_json_schema(by_alias=True)["properties"]
    assert list(generated) == list(documented)
    for name, field in documented.items():
        # An optional field is `anyOf` its type and null, which is left out of what we serve.
        shown = generated[name] | generated[name].get("anyOf", [{}])[0]
        assert shown["type"] == field["type"], name
        assert shown.get("format") == field.get("format"), name
        assert name == "id" or shown["description"] == field["description"], name


@pytest.mark.parametrize(
    "wrong",
    [
        {"id": "no-uuid"},
        {"startDate": "2026-06-01"},
        {"minEffort": 2**31},
        {"minEffort": "4"},
        {"price": None},
        {"currency": "USD"},
    ],
)
def test_the_schema_refuses_a_run_when_it_violates_the_contract(wrong: dict[str, object]) -> None:
    (run,) = served(make_course())
    with pytest.raises(ValidationError):
        CONTRACT.validate(run | wrong)
