"""Sample records, made up and deterministic: seats, course runs and courses with every key that edX sends."""

import re
from collections.abc import Sequence
from datetime import datetime, timedelta
from random import Random
from typing import Any
from uuid import NAMESPACE_URL, uuid5

from local.sandbox.catalogs import Course, course_key_of

Run = dict[str, Any]

NEVER = "3000-01-01T00:00:00Z"

INSTITUTIONS = {
    "MITx": "Massachusetts Institute of Technology",
    "HarvardX": "Harvard University",
    "DelftX": "Delft University of Technology",
    "NUSx": "National University of Singapore",
    "UQx": "The University of Queensland",
    "TUMx": "Technical University of Munich",
    "KyotoUx": "Kyoto University",
    "IITBombayX": "IIT Bombay",
}

WORDS = re.findall(
    r"\w+",
    "learn how to model real systems with simple tools and careful measurement while working through "
    "weekly exercises that build on each other from first principles to open questions of research",
)


def make_seat(
    track: str = "verified", price: object = "150.00", currency: object = "USD", **fields: object
) -> Run:
    """Return a seat as edX sends one."""
    return {
        "type": track,
        "price": price,
        "currency": currency,
        "upgrade_deadline": None,
        "upgrade_deadline_override": None,
        "credit_provider": None,
        "credit_hours": None,
        "sku": "8CF08E5",
        "bulk_sku": "A5B6DBE",
        **fields,
    }


def make_run(key: str = "course-v1:NUSx+SAMPLE1x+1T2026", **fields: object) -> Run:
    """Return a course run with every key that edX sends: verified at 150 USD, 10 weeks of 4 to 6 hours."""
    course = course_key_of(key)
    address = f"https://www.edx.org/course/{course.lower().replace('+', '-')}"
    return {
        "key": key,
        "uuid": sample_uuid(key),
        "title": f"Sample of {course}",
        "external_key": None,
        "fixed_price_usd": None,
        "image": make_image(course),
        "short_description": "<p>What the course is about.</p>",
        "marketing_url": f"{address}?utm_source=sandbox&utm_medium=affiliate_partner",
        "seats": [make_seat(), make_seat("audit", "0.00", sku="068F3E2", bulk_sku=None)],
        "start": "2026-01-12T15:00:00Z",
        "end": NEVER,
        "go_live_date": None,
        "enrollment_start": None,
        "enrollment_end": None,
        "weeks_to_complete": 10,
        "pacing_type": "instructor_paced",
        "type": "verified",
        "restriction_type": None,
        "run_type": "9d3f1f5e-57e0-4b4f-8b8f-4b2ab0b1d1b0",
        "status": "published",
        "is_enrollable": True,
        "is_marketable": True,
        "availability": "Current",
        "variant_id": None,
        "course": course,
        "full_description": filler(key, 900),
        "announcement": None,
        "video": None,
        "content_language": "en-us",
        "license": "all-rights-reserved",
        "outcome": "<ul><li>Practise</li></ul>",
        "transcript_languages": ["en-us"],
        "instructors": [],
        "staff": [make_instructor(key)],
        "min_effort": 4,
        "max_effort": 6,
        "modified": "2026-01-11T18:27:16.466621Z",
        "level_type": "Introductory",
        "mobile_available": True,
        "hidden": False,
        "reporting_type": "mooc",
        "eligible_for_financial_aid": True,
        "first_enrollable_paid_seat_price": 150,
        "has_ofac_restrictions": False,
        "ofac_comment": "",
        "enrollment_count": 1619,
        "recent_enrollment_count": 212,
        "expected_program_type": None,
        "expected_program_name": "",
        "course_uuid": sample_uuid(course),
        "estimated_hours": 50.0,
        "content_language_search_facet_name": "English",
        "enterprise_subscription_inclusion": False,
        "transcript_languages_search_facet_names": ["English"],
        "translation_languages": [],
        "ai_languages": None,
        "enrollment_url": f"https://courses.edx.org/course_modes/choose/{key}/",
        **fields,
    }


def make_course(key: str = "NUSx+SAMPLE1x", runs: Sequence[object] | None = None, **fields: object) -> Course:
    """Return a course with every key that edX sends; without `runs`, with one run."""
    organisation = key.partition("+")[0]
    course_runs = [make_run(f"course-v1:{key}+1T2026")] if runs is None else list(runs)
    run_keys = [run["key"] for run in course_runs if isinstance(run, dict) and "key" in run]
    address = f"https://www.edx.org/course/{key.lower().replace('+', '-')}"
    return {
        "key": key,
        "uuid": sample_uuid(key),
        "title": f"Sample of {key}",
        "course_runs": course_runs,
        "entitlements": [],
        "owners": [make_owner(organisation)],
        "image": make_image(key),
        "short_description": "<p>What the course is about.</p>",
        "type": "e2b6a5f5-71f2-4d7c-9b0c-6d5d0a0d8a1a",
        "url_slug": key.lower().replace("+", "-"),
        "course_type": "verified-audit",
        "enterprise_subscription_inclusion": False,
        "excluded_from_seo": False,
        "excluded_from_search": False,
        "full_description": filler(key, 1200),
        "level_type": "Introductory",
        "subjects": [make_subject("Computer Science")],
        "prerequisites": [],
        "prerequisites_raw": "<p>None</p>",
        "expected_learning_items": [],
        "video": None,
        "sponsors": [],
        "modified": "2026-01-11T18:07:29.593570Z",
        "marketing_url": f"{address}?utm_source=sandbox",
        "syllabus_raw": "",
        "outcome": "<ul><li>Practise</li></ul>",
        "original_image": make_image(key),
        "card_image_url": None,
        "canonical_course_run_key": run_keys[0] if run_keys else None,
        "extra_description": None,
        "additional_information": "",
        "additional_metadata": None,
        "faq": "",
        "learner_testimonials": "",
        "enrollment_count": 90600,
        "recent_enrollment_count": 14365,
        "topics": ["sample"],
        "key_for_reruns": "",
        "url_slug_history": [],
        "url_redirects": [],
        "course_run_statuses": ["published"],
        "editors": [],
        "collaborators": [],
        "skill_names": ["Modelling"],
        "skills": [{"name": "Modelling", "description": filler(f"skill {key}", 250)}],
        "organization_short_code_override": "",
        "organization_logo_override_url": None,
        "geolocation": None,
        "location_restriction": None,
        "in_year_value": None,
        "product_source": {"name": "edX", "slug": "edx", "description": "Open courses"},
        "data_modified_timestamp": "2026-01-11T18:07:29.593570Z",
        "programs": [],
        "course_run_keys": run_keys,
        **fields,
    }


def make_owner(organisation: str) -> dict[str, object]:
    """Return the institution of a course."""
    return {
        "uuid": sample_uuid(organisation),
        "key": organisation,
        "name": INSTITUTIONS.get(organisation, organisation),
        "description": filler(organisation, 500),
        "tags": ["founder"],
        "homepage_url": None,
        "logo_image_url": f"https://discovery.edx-cdn.org/organization/logos/{organisation}.png",
        "certificate_logo_image_url": None,
        "marketing_url": f"https://www.edx.org/school/{organisation.lower()}",
        "slug": organisation.lower(),
    }


def make_subject(name: str) -> dict[str, object]:
    """Return a subject."""
    slug = name.lower().replace(" & ", "-").replace(" ", "-")
    return {
        "name": name,
        "subtitle": "",
        "description": filler(name, 300),
        "slug": slug,
        "uuid": sample_uuid(slug),
    }


def make_image(key: str) -> dict[str, object]:
    """Return an image in the shape that the real server sends; the published page shows an array of these."""
    address = f"https://prod-discovery.edx-cdn.org/media/course/image/{sample_uuid(key)}.small.jpg"
    return {"src": address, "description": None, "height": None, "width": None}


def make_instructor(key: str) -> dict[str, object]:
    """Return one of the staff."""
    return {
        "uuid": sample_uuid(f"staff of {key}"),
        "given_name": "Sam",
        "family_name": "Ple",
        "bio": filler(f"staff of {key}", 400),
        "position": {"title": "Professor", "organization_name": "Sample University", "organization_id": 27},
        "works": [],
        "urls": {"facebook": None, "blog": None, "twitter": None},
    }


def filler(seed: str, characters: int) -> str:
    """Return text of about this many characters; the same seed always gives the same text."""
    words = Random(seed).choices(WORDS, k=characters // 6)  # noqa: S311  text, not a secret
    return f"<p>{' '.join(words).capitalize()}.</p>"


def sample_uuid(name: str) -> str:
    """Return a UUID made from a name; the same name always gives the same UUID."""
    return str(uuid5(NAMESPACE_URL, f"sample:{name}"))


def moment(now: datetime, days: float) -> datetime:
    """Return `now` moved by some days, without fractions of a second."""
    return now.replace(microsecond=0) + days * timedelta(days=1)


def at(now: datetime, days: float) -> str:
    """Return the time that is `days` from `now`, in edX's format."""
    return f"{moment(now, days):%Y-%m-%dT%H:%M:%SZ}"


def between(now: datetime, start_days: float, end_days: float) -> Run:
    """Return the fields of a run that starts and ends this many days from `now`."""
    return {"start": at(now, start_days), "end": at(now, end_days)}
