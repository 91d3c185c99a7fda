"""The default content of the sandbox: three catalogs with every case of cases.py."""

from datetime import UTC, datetime

from local.sandbox.cases import both_cases, course_cases, rejected_runs, run_cases
from local.sandbox.catalogs import Catalog, Course
from local.sandbox.sample import INSTITUTIONS, at, between, filler, make_course, make_run, make_subject

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


def sample_catalogs(now: datetime | None = None) -> list[Catalog]:
    """Return three catalogs: two of ours that share courses, and one that another user owns."""
    now = now or datetime.now(UTC)
    courses = sample_courses(now)
    own = [
        make_course(f"PartnerX+{number}x", [make_run(f"course-v1:PartnerX+{number}x+R1", end=at(now, 99))])
        for number in range(6)
    ]
    return [
        Catalog(1, "NUS Design-Your-Own-Module", courses, query="org:(MITx OR NUSx)", archived=31),
        Catalog(2, "Partner picks", [*courses[-24:], *own], query="key:partner*", archived=4),
        Catalog(3, "Catalog of another user", courses[:5], viewers=["somebody-else"]),
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
        case = {"title": title, **between(now, 10, 90), **run_fields}
        runs = [make_run(_run_key(key, "2T2026", slashes=number % 2 == 0), **case)]
        if number % 10:
            plain = {"title": title, **between(now, -30, 60)}
            runs.append(make_run(_run_key(key, "1T2026", slashes=number % 2 == 1), **plain))
        text = filler(key, 600 + 80 * number)
        described = {"title": title, "subjects": [make_subject(subject)], "full_description": text}
        courses.append(make_course(key, **{"runs": runs, **described, **course_fields}))
    good = make_run("course-v1:NUSx+REJECTx+GOOD", **between(now, -30, 60))
    return [*courses, make_course("NUSx+REJECTx", [good, *rejected_runs()])]


def _run_key(course_key: str, term: str, *, slashes: bool) -> str:
    key = f"{course_key}+{term}"
    return key.replace("+", "/") if slashes else f"course-v1:{key}"
