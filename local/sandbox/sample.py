"""Sample catalogues for the edX sandbox: made up, deterministic, with every case that mapping must meet.

Everything hangs on `now`, so that a run which is current, ahead or over stays so whenever the sample is made.
"""

import re
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from functools import partial
from itertools import chain
from json import dumps
from random import Random
from typing import Any
from uuid import NAMESPACE_URL, uuid5

from local.sandbox.catalogs import Catalog, Course, StoredCourse, course_key_of

Run = dict[str, Any]

DAY = timedelta(days=1)
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

TITLES = {
    "Computer Science": (
        "Introduction to Programming|Algorithms and Data Structures|Operating Systems|Compilers|"
        "Distributed Systems|Human-Computer Interaction|Software Construction|Computer Networks"
    ),
    "Data Analysis & Statistics": (
        "Probability: The Science of Uncertainty|Statistical Inference|Bayesian Methods|Data Wrangling|"
        "Regression Analysis|Machine Learning with Trees|Survey Design|Time Series|Causal Inference"
    ),
    "Engineering": (
        "Circuits and Electronics|Fluid Mechanics|Solar Energy|Bridge Design|Aerodynamics|"
        "Control of Mobile Robots|Materials Science|Water Treatment|Sustainable Aviation"
    ),
    "Economics & Finance": (
        "Microeconomics|The Economics of Inequality|Corporate Finance|Development Policy|Game Theory|"
        "International Trade|Behavioural Economics|Financial Accounting|Money and Banking"
    ),
    "Biology & Life Sciences": (
        "Molecular Biology|Genetics|The Human Brain|Ecology of Cities|Immunology|Plant Science|"
        "Bioinformatics|Marine Life|Evolution"
    ),
    "Humanities": (
        "Ancient Egypt|Japanese Woodblock Prints|Justice|Masterpieces of World Literature|"
        "The Architectural Imagination|History of Singapore|Shakespeare|Ethics of Memory"
    ),
    "Business & Management": (
        "Supply Chain Fundamentals|Entrepreneurship 101|Digital Marketing|Leading Teams|Negotiation|"
        "Innovation Management|Project Management|Operations Research|Family Business"
    ),
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
    """Return text of about so many characters, always the same for one seed."""
    words = Random(seed).choices(WORDS, k=characters // 6)  # noqa: S311  text, not a secret
    return f"<p>{' '.join(words).capitalize()}.</p>"


def sample_uuid(name: str) -> str:
    """Return the id that the sample gives to something."""
    return str(uuid5(NAMESPACE_URL, f"sample:{name}"))


def run_cases(now: datetime) -> Iterator[Run]:
    """Yield what to set in a run for every rule of the field table and every hard case, one at a time."""
    return chain(seat_cases(), workload_cases(now), date_cases(now), other_cases())


def seat_cases() -> Iterator[Run]:
    """Each track alone, several of them, currencies, prices."""
    for track in ("verified", "audit", "professional", "no-id-professional", "credit", "honor"):
        yield {"seats": [make_seat(track, "0.00" if track in ("audit", "honor") else "199.00")]}
    for track in (
        "executive-education",
        "unpaid-executive-education",
        "masters",
        "unpaid-bootcamp",
        "paid-bootcamp",
    ):
        yield {"seats": [make_seat(track, "2900.00")], "type": None}
    yield {"seats": [make_seat("verified", "49.00"), make_seat("professional", "600.00")]}
    yield {"seats": [make_seat("professional", "600.00", "GBP"), make_seat("no-id-professional", "450.00")]}
    yield {
        "seats": [make_seat("credit", "300.00", credit_provider="asu", credit_hours=3), make_seat("verified")]
    }
    yield {
        "seats": [
            make_seat(price="135.00", currency="EUR"),
            make_seat(price="149.00"),
            make_seat(price="99.00"),
        ]
    }
    yield {"seats": [make_seat(price="9.00"), make_seat(price="10.00")]}
    yield {"seats": [make_seat(price="135.00", currency="EUR"), make_seat("audit", "0.00")]}
    yield {"seats": [make_seat(price="120.00", currency=None)]}
    yield {"seats": [make_seat(price=149)]}
    yield {"seats": [make_seat(price=49.5)]}
    yield {"seats": [make_seat(price="0.00")]}
    yield {"seats": [make_seat(price="free")]}
    yield {"seats": [make_seat(price=None), make_seat(price="75.00")]}
    yield {"seats": [make_seat(price="NaN"), make_seat("audit", "0.00")]}
    for run_type in ("verified", "audit", "professional", "credit", "honor", "executive-education", "", None):
        yield {"seats": [], "type": run_type}
    yield {"seats": None, "type": "verified"}


def workload_cases(now: datetime) -> Iterator[Run]:
    """Effort, weeks and pacing."""
    yield {"min_effort": 8, "max_effort": 4}
    for effort in (None, 0, "4", 4.0, 4.5, -1, "many", 2**31):
        yield {"min_effort": effort}
        yield {"max_effort": effort}
    yield {"min_effort": None, "max_effort": None}
    yield {"min_effort": 0, "max_effort": 0}
    yield {"min_effort": 1, "max_effort": 1, "weeks_to_complete": 4}  # less than one credit
    for pacing in ("instructor_paced", "self_paced"):
        for weeks in (0, None, 52):
            yield {"weeks_to_complete": weeks, "pacing_type": pacing, **_between(now, -10, 40)}
    yield {"weeks_to_complete": "6"}
    yield {"weeks_to_complete": None, **_between(now, -10, 3700)}  # longer than ten years
    yield {"weeks_to_complete": None, **_between(now, 60, 60)}  # ends as it starts
    yield {"weeks_to_complete": None, "start": None}
    for odd_pacing in (None, "cohort_paced", ""):
        yield {"pacing_type": odd_pacing}


def date_cases(now: datetime) -> Iterator[Run]:
    """Every way to write a date, and every place of `now` in a run's life."""
    yield _between(now, -40, 40)
    yield _between(now, 20, 90)
    yield _between(now, -400, -300)  # ended
    yield {**_between(now, -400, -1), "availability": "Current"}  # edX's own value lags behind
    yield {"start": None, "end": None}
    yield {"start": None, "end": _at(now, 100)}
    yield {"start": _at(now, -30), "end": None}
    yield {"start": _at(now, -30), "end": NEVER, "pacing_type": "self_paced"}
    yield {"start": f"{_moment(now, 15):%Y-%m-%dT%H:%M:%S}.593570Z"}
    yield {"start": f"{_moment(now, 15):%Y-%m-%dT%H:%M:%S}+08:00"}
    yield {"start": f"{_moment(now, 15):%Y-%m-%dT%H:%M:%S}"}  # no offset: UTC
    yield {"start": f"{_moment(now, 15):%Y-%m-%d}", "end": f"{_moment(now, 75):%Y-%m-%d}"}
    yield {"start": f"{_moment(now, 15):%Y-%m-%dT%H:%M}Z"}
    yield {"start": "", "end": ""}
    yield {"enrollment_start": _at(now, -60), "enrollment_end": _at(now, 30)}
    yield {"enrollment_start": f"{_moment(now, -60):%Y-%m-%dT%H:%M:%S}.000001-05:30", "enrollment_end": None}
    yield {"start": "1999-12-31T23:59:59Z", "end": "9999-12-31T23:59:59Z"}


def other_cases() -> Iterator[Run]:
    """Status, languages, addresses and shapes."""
    for status in ("unpublished", "reviewed", "archived", None):
        yield {"status": status}
    yield {"hidden": True}
    yield {"is_enrollable": False, "is_marketable": False}
    yield {"availability": "Actuel", "level_type": "Débutant", "content_language": "fr"}
    yield {
        "availability": "Próximamente",
        "level_type": "Introductorio",
        "title": "Introducción a la programación",
    }
    yield {"enrollment_url": None}
    yield {"enrollment_url": ""}
    yield {"enrollment_url": "javascript:alert(1)"}
    yield {
        "enrollment_url": "https://courses.edx.org/enterprise/sample/course/enroll/?catalog=1&utm_medium=enterprise"
    }
    yield {"marketing_url": None}
    yield {"marketing_url": ""}
    yield {"marketing_url": "ftp://www.edx.org/course/sample"}
    yield {"marketing_url": "http://www.edx.org/course/éducation?q=a b"}
    yield {"image": [make_image("array")]}
    yield {"image": None}
    yield {"course_uuid": None, "uuid": None}
    yield {"a_key_of_tomorrow": {"deep": [1, 2, 3]}, "title": "Größe 量子力学 🎓"}


def course_cases() -> Iterator[Course]:
    """Yield what to set in a course, one at a time."""
    yield {"uuid": None}
    yield {"uuid": "not-a-uuid"}
    yield {"uuid": ""}
    yield {"runs": [], "course_run_keys": []}
    yield {"marketing_url": None}
    yield {"marketing_url": "javascript:void(0)"}
    yield {"image": None}
    yield {"image": [make_image("array")]}
    yield {
        "course_type": "executive-education-2u",
        "additional_metadata": {"external_url": "https://example.org/"},
    }
    yield {"level_type": "Fortgeschritten", "title": "Einführung in die Robotik"}
    yield {"full_description": filler("a very long one", 30_000)}
    yield {"title": None, "short_description": None, "subjects": [], "owners": []}


def both_cases() -> Iterator[tuple[Run, Course]]:
    """Yield what to set in a run and in its course at once."""
    yield {"course_uuid": None}, {"uuid": None}
    yield {"course_uuid": "odd"}, {"uuid": "odd"}
    yield {"marketing_url": None}, {"marketing_url": None}
    yield {"marketing_url": "mailto:info@edx.org"}, {"marketing_url": "javascript:void(0)"}


def rejected_runs() -> list[object]:
    """Return records that cannot be mapped; each is to be rejected alone."""
    return [
        make_run("course-v1:NUSx+REJECTx+BADDATE", start="next Tuesday"),
        make_run("course-v1:NUSx+REJECTx+YEAR0", end="0000-00-00T00:00:00Z"),
        make_run("course-v1:NUSx+REJECTx+" + "X" * 250),
        make_run("course-v1:NUSx+REJECTx+\u0007BELL"),
        make_run() | {"key": None},
        make_run() | {"key": 6001},
        "no object at all",
    ]


def sample_catalogs(now: datetime | None = None) -> list[Catalog]:
    """Return three catalogs: ours, a second of ours that shares courses with it, and somebody else's."""
    now = now or datetime.now(UTC)
    courses = sample_courses(now)
    own = [
        make_course(f"PartnerX+{number}x", [make_run(f"course-v1:PartnerX+{number}x+R1", end=_at(now, 99))])
        for number in range(6)
    ]
    return [
        Catalog(1, "NUS Design-Your-Own-Module", courses, query="org:(MITx OR NUSx)", archived=31),
        Catalog(2, "Partner picks", [*courses[-24:], *own], query="key:partner*", archived=4),
        Catalog(3, "Somebody else's", courses[:5], viewers=["somebody-else"]),
    ]


def sample_courses(now: datetime) -> list[Course]:
    """Return the courses of the sample, the same ones for the same `now`."""
    now = now.astimezone(UTC)
    cases = [
        *((case, {}) for case in run_cases(now)),
        *(({}, case) for case in course_cases()),
        *both_cases(),
    ]
    titles = [(subject, title) for subject, titles in TITLES.items() for title in titles.split("|")]
    organisations = list(INSTITUTIONS)
    courses = []
    for number, (run_fields, course_fields) in enumerate(cases):
        key = f"{organisations[number % len(organisations)]}+{100 + number}x"
        round_, place = divmod(number, len(titles))
        subject, title = titles[place]
        title += ": Advanced Topics" * round_
        case = {"title": title, **_between(now, 10, 90), **run_fields}
        runs = [make_run(_run_key(key, "2T2026", slashes=number % 2 == 0), **case)]
        if number % 10:
            plain = {"title": title, **_between(now, -30, 60)}
            runs.append(make_run(_run_key(key, "1T2026", slashes=number % 2 == 1), **plain))
        text = filler(key, 600 + 80 * number)
        described = {"title": title, "subjects": [make_subject(subject)], "full_description": text}
        courses.append(make_course(key, **{"runs": runs, **described, **course_fields}))
    good = make_run("course-v1:NUSx+REJECTx+GOOD", **_between(now, -30, 60))
    return [*courses, make_course("NUSx+REJECTx", [good, *rejected_runs()])]


def large_catalog(courses: int, now: datetime | None = None) -> Catalog:
    """Return a catalog of so many courses, for load."""
    return Catalog(1, "Large", large_catalogue(courses, now))


def large_catalogue(courses: int, now: datetime | None = None) -> list[StoredCourse]:
    """Return so many courses of about 9 kB, with one run and two by turns, current or ahead, none ended.

    A course is written from a template when it is asked for, so that a large catalogue takes no memory.
    The keys are `LoadX+000000` and so on, the runs' `course-v1:LoadX+000000+1` and `+2`.
    """
    today = (now or datetime.now(UTC)).astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    starts = [_at(today, day).encode() for day in range(-180, 180)]
    templates = _large_template(1), _large_template(2)
    return [
        StoredCourse(f"LoadX+{number:06}", partial(_large_course, templates[number % 2], starts, number))
        for number in range(courses)
    ]


def _large_course(template: bytes, starts: Sequence[bytes], number: int) -> bytes:
    return template % {
        b"number": number,
        b"start": starts[number % len(starts)],
        b"weeks": number % 12 + 1,
        b"effort": number % 5 + 2,
        b"price": number % 300 + 49,
    }


def _large_template(runs: int) -> bytes:
    """Return a course as a bytes template; marks that stand for a number lose their quotes."""
    key = "LoadX+<number>"
    text = {"full_description": filler("load", 300)}
    made = [
        make_run(
            f"course-v1:{key}+{run}",
            **text,
            uuid=f"0000000{run}-0000-4000-8000-<hex>",
            course_uuid="00000000-0000-4000-8000-<hex>",
            seats=[make_seat(price="<price>.00"), make_seat("audit", "0.00")],
            start="<start>",
            weeks_to_complete="<weeks>",
            min_effort="<effort>",
            max_effort="<effort>",
        )
        for run in range(1, runs + 1)
    ]
    course = make_course(key, made, **text, uuid="00000000-0000-4000-8000-<hex>")
    template = dumps(course).replace("%", "%%")
    for mark, directive in {
        '"<weeks>"': "%(weeks)d",
        '"<effort>"': "%(effort)d",
        "<number>": "%(number)06d",
        "<hex>": "%(number)012x",
        "<price>": "%(price)d",
        "<start>": "%(start)b",
    }.items():
        template = template.replace(mark, directive)
    return template.encode()


def _run_key(course_key: str, term: str, *, slashes: bool) -> str:
    key = f"{course_key}+{term}"
    return key.replace("+", "/") if slashes else f"course-v1:{key}"


def _moment(now: datetime, days: float) -> datetime:
    return now.replace(microsecond=0) + days * DAY


def _at(now: datetime, days: float) -> str:
    return f"{_moment(now, days):%Y-%m-%dT%H:%M:%SZ}"


def _between(now: datetime, start_days: float, end_days: float) -> Run:
    return {"start": _at(now, start_days), "end": _at(now, end_days)}
