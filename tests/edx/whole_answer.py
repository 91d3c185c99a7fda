"""Answers in the structure of the real server: all 53 keys of a course, all 56 of a run, invented values."""

import json
from typing import Any

IMAGE = {"src": "https://cdn.example.org/media/course/image/1.small.jpg", "height": None, "width": None}
SUBJECT = {
    "name": "Computer Science",
    "subtitle": "<p>Courses about computing</p>",
    "description": "<p>From algorithms to networks</p>",
    "banner_image_url": "https://example.org/banner.jpg",
    "card_image_url": "https://example.org/card.jpg",
    "slug": "computer-science",
    "uuid": "0c1d2e3f-4a5b-4c6d-8e7f-901234567890",
}
OWNER = {
    "uuid": "1c1d2e3f-4a5b-4c6d-8e7f-901234567890",
    "key": "SampleX",
    "name": "Sample University",
    "auto_generate_course_run_keys": True,
    "certificate_logo_image_url": None,
    "homepage_url": None,
    "tags": [],
}


def full_seat(**overrides: Any) -> dict[str, Any]:
    return {
        "type": "verified",
        "price": "149.00",
        "currency": "USD",
        "upgrade_deadline": "2026-07-01T23:59:59Z",
        "upgrade_deadline_override": None,
        "credit_provider": None,
        "credit_hours": None,
        "sku": "8CF08E5",
        "bulk_sku": "A5B6DBE",
    } | overrides


def full_run(**overrides: Any) -> dict[str, Any]:
    return {
        "key": "course-v1:SampleX+CS.1x+1T2026",
        "uuid": "2c1d2e3f-4a5b-4c6d-8e7f-901234567890",
        "title": "Algorithms by Example",
        "external_key": None,
        "fixed_price_usd": None,
        "image": IMAGE | {"description": None},
        "short_description": "<p>Learn by doing.</p>",
        "marketing_url": "https://www.example.org/course/algorithms?utm_source=our-user&utm_medium=affiliate",
        "seats": [full_seat(), full_seat(type="audit", price="0.00", upgrade_deadline=None)],
        "start": "2026-02-01T15:00:00Z",
        "end": "2026-08-01T23:59:59.500000Z",
        "go_live_date": None,
        "enrollment_start": None,
        "enrollment_end": "2026-07-20T23:59:59Z",
        "weeks_to_complete": 8,
        "pacing_type": "self_paced",
        "type": "verified",
        "run_type": "3c1d2e3f-4a5b-4c6d-8e7f-901234567890",
        "status": "published",
        "is_enrollable": True,
        "is_marketable": True,
        "availability": "Current",
        "variant_id": None,
        "course": "SampleX+CS.1x",
        "full_description": "<p>A longer text.</p>",
        "announcement": None,
        "video": {"src": "https://video.example.org/1", "description": None, "image": IMAGE},
        "content_language": "en-us",
        "license": "",
        "outcome": "<p>You will know some.</p>",
        "transcript_languages": ["en-us", "zh-cmn"],
        "ai_languages": {"translation_languages": [], "transcription_languages": []},
        "translation_languages": [],
        "instructors": [],
        "staff": [{"uuid": "4c1d2e3f-4a5b-4c6d-8e7f-901234567890", "given_name": "Ada", "position": None}],
        "min_effort": 4,
        "max_effort": 6,
        "modified": "2026-01-15T08:30:00.123456Z",
        "level_type": "Introductory",
        "mobile_available": True,
        "hidden": False,
        "reporting_type": "mooc",
        "eligible_for_financial_aid": True,
        "first_enrollable_paid_seat_price": 149,
        "has_ofac_restrictions": False,
        "ofac_comment": "",
        "enrollment_count": 5021,
        "recent_enrollment_count": 210,
        "expected_program_type": None,
        "expected_program_name": "",
        "course_uuid": "5c1d2e3f-4a5b-4c6d-8e7f-901234567890",
        "estimated_hours": 40,
        "content_language_search_facet_name": "English",
        "enterprise_subscription_inclusion": False,
        "programs": [],
        "enrollment_url": None,
    } | overrides


def full_course(**overrides: Any) -> dict[str, Any]:
    return {
        "key": "SampleX+CS.1x",
        "uuid": "5c1d2e3f-4a5b-4c6d-8e7f-901234567890",
        "title": "Algorithms by Example",
        "course_runs": [full_run()],
        "entitlements": [
            {"mode": "verified", "price": "149.00", "currency": "USD", "sku": "9", "expires": None}
        ],
        "owners": [OWNER],
        "image": IMAGE,
        "short_description": "<p>Learn by doing.</p>",
        "type": "6c1d2e3f-4a5b-4c6d-8e7f-901234567890",
        "url_slug": "algorithms-by-example",
        "course_type": "verified-audit",
        "enterprise_subscription_inclusion": False,
        "excluded_from_seo": False,
        "excluded_from_search": False,
        "full_description": "<p>A longer text.</p>",
        "level_type": "Introductory",
        "subjects": [SUBJECT],
        "prerequisites": [],
        "prerequisites_raw": None,
        "expected_learning_items": [],
        "video": None,
        "sponsors": [],
        "modified": "2026-01-15T08:30:00.123456Z",
        "marketing_url": "https://www.example.org/course/algorithms?utm_source=our-user",
        "syllabus_raw": None,
        "outcome": "<p>You will know some.</p>",
        "original_image": IMAGE,
        "card_image_url": None,
        "canonical_course_run_key": "course-v1:SampleX+CS.1x+1T2026",
        "extra_description": None,
        "additional_information": None,
        "additional_metadata": None,
        "faq": None,
        "learner_testimonials": None,
        "enrollment_count": 5021,
        "recent_enrollment_count": 210,
        "topics": [],
        "key_for_reruns": "",
        "url_slug_history": ["algorithms-by-example"],
        "url_redirects": [],
        "course_run_statuses": ["published"],
        "editors": [],
        "collaborators": [],
        "skill_names": ["Algorithms"],
        "skills": [{"name": "Algorithms", "description": "Steps to a result", "category": {"id": 1}}],
        "organization_short_code_override": "",
        "organization_logo_override_url": None,
        "geolocation": None,
        "location_restriction": None,
        "in_year_value": None,
        "product_source": {"name": "edX", "slug": "edx", "description": "Open courses"},
        "data_modified_timestamp": "2026-01-15T08:30:00.123456Z",
        "watchers": [],
    } | overrides


def full_page(courses: int, kilobytes: int) -> bytes:
    """Return a page of courses of this many kilobytes each, mostly text in fields that are not read."""
    bare = len(json.dumps(full_course()))
    text = "<p>Sentences about the course, one after the other.</p>"
    filler = text * ((kilobytes * 1000 - bare) // len(text))
    results = [full_course(key=f"SampleX+CS.{n}x", full_description=filler) for n in range(courses)]
    return json.dumps({"count": courses, "next": None, "previous": None, "results": results}).encode()
