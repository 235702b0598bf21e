"""Who is let in, and that no request breaks the server or reaches what it must not."""

import json
import os
from urllib.parse import quote, urlencode

import pytest
from helpers.studio import GOOD
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dissect.annotations import Annotations


def test_the_page_and_everything_on_it_comes_from_the_server(studio):
    client, _, _ = studio
    status, headers, page = client.request("GET", "")
    assert status == 200
    assert "default-src 'none'" in headers["content-security-policy"]
    text = page.decode()
    assert "http:" not in text
    assert "https:" not in text
    for name in ("style.css", "main.js", "icon.svg"):
        status, _, body = client.request("GET", name)
        assert status == 200
        # The name of SVG is an address that nobody calls.
        assert b"://" not in body.replace(b"http://www.w3.org/2000/svg", b"")


@pytest.mark.parametrize(
    ("change", "status"),
    [
        ({"token": "/"}, 403),
        ({"token": "/wrong/"}, 403),
        ({"token": "//"}, 403),
        ({"host": "evil.example"}, 421),
        ({"host": "evil.example:80"}, 421),
        ({"host": "127.0.0.1"}, 421),
        ({"headers": {"Origin": "http://evil.example"}}, 403),
        ({"headers": {"Origin": "null"}}, 403),
        ({"headers": {"Origin": "https://127.0.0.1:1"}}, 403),
    ],
)
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_strangers_are_refused(studio, method, change, status):
    client, _, folder = studio
    before = sorted(folder.rglob("*"))
    body = b'{"concept":"spot","pass":"first","position":0,"boxes":[],"version":"unseen"}'
    path = "api/boxes?concept=spot&pass=first"
    answered, _, _ = client.request(method, path, body if method == "POST" else None, **change)
    assert answered == status
    assert sorted(folder.rglob("*")) == before


def test_a_post_that_a_form_of_another_page_could_send_is_refused(studio):
    client, _, _ = studio
    for kind in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data"):
        assert client.request("POST", "api/boxes", b"{}", {"Content-Type": kind})[0] == 415
    assert client.request("PUT", "api/boxes", b"{}")[0] == 405


def test_what_is_too_large_is_refused(studio):
    client, _, _ = studio
    for length in (str((1 << 20) + 1), "9" * 15):
        # Refused by what it says of itself, before it is read.
        assert client.request("POST", "api/boxes", b"{", {"Content-Length": length})[0] == 413
    assert client.request("POST", "api/boxes", b" " * (1 << 20))[0] == 422
    assert client.request("GET", "api/boxes?" + "a" * 5_000)[0] == 414
    deep = b'{"boxes":' + b"[" * 100_000 + b"]" * 100_000 + b"}"
    assert client.request("POST", "api/boxes", deep)[0] == 422


@pytest.mark.parametrize(
    "path",
    [
        "../../etc/passwd",
        "%2e%2e/%2e%2e/etc/passwd",
        "static/../app.py",
        "app.py",
        "//etc/passwd",
        "api/picture/..%2f..%2fetc%2fpasswd.png",
    ],
)
def test_no_path_of_a_request_reaches_the_disk(studio, path):
    client, _, _ = studio
    status, _, body = client.request("GET", path)
    assert status in (404, 422)
    assert b"root:" not in body
    assert b"import" not in body


words = st.one_of(
    st.sampled_from(
        ["spot", "door", "first", "second", "toy", "layer8x8", "spot (given)", "unseen", "0", "3"]
    ),
    st.text(max_size=12),
    st.integers(-(10**20), 10**20).map(str),
)
values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-3, 80)
    | st.integers(-(10**30), 10**30)
    | st.floats(width=32)
    | words
    | st.sampled_from(["everywhere", "probe", "auto", "brush", "edit", "picture", "checkpoint"]),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(words, inner, max_size=3),
    max_leaves=6,
)
# Mostly good, so that a request gets past the first thing that it is asked for.
bodies = st.dictionaries(st.sampled_from(list(GOOD)), values, max_size=3).map(
    lambda odd: {**GOOD, **odd}
)
posts = st.tuples(
    st.sampled_from(["boxes", "coverage", "edit", "measure", "ranking", "save", "walk"]),
    bodies | values,
)
gets = st.tuples(
    st.sampled_from(["workspace", "boxes", "agreement", "model", "units", "strengths", "before"]),
    st.dictionaries(st.sampled_from(list(GOOD)), words, max_size=3),
)


@pytest.mark.parametrize("part", range(2))
def test_no_request_breaks_the_server_or_leaves_its_folder(studio, part):
    client, _, folder = studio
    home = folder.parent
    outside = {path for path in home.rglob("*") if folder not in path.parents}
    count = 0

    @given(post=posts, get=gets, picture=words, raw=st.binary(max_size=60))
    @settings(
        max_examples=int(os.environ.get("DISSECT_FUZZ", "100")),
        suppress_health_check=list(HealthCheck),
        database=None,
        derandomize=False,
    )
    def fuzz(post, get, picture, raw):
        nonlocal count
        sent = json.dumps(post[1]).encode()
        query = urlencode(
            {**{key: GOOD[key] for key in ("model", "layer", "seed", "index")}, **get[1]},
            errors="replace",
        )
        asked = [
            client.request("POST", f"api/{post[0]}", sent),
            client.request("POST", f"api/{post[0]}", raw),
            client.request("GET", f"api/{get[0]}?{query}"),
            client.request("GET", f"api/picture/{quote(picture, safe='', errors='replace')}.png"),
            client.request(
                "GET", f"api/sample/0/{quote(picture, safe='', errors='replace')}/1.png"
            ),
            client.request("GET", quote(raw)),
        ]
        count += len(asked)
        for status, _, body in asked:
            assert status in (200, 404, 405, 409, 422), (status, body, post, get, picture)

    fuzz()
    assert count >= 500
    assert {path for path in home.rglob("*") if folder not in path.parents} == outside
    written = {path.relative_to(folder).parts[0] for path in folder.rglob("*")}
    assert written <= {"boxes", "saved"}
    for path in (folder / "boxes").glob("*.json"):
        Annotations.load(path, path.stem, allow_empty=True)
    assert client.get("api/workspace")[0] == 200
