"""Policies on the hub, against a stand-in of its HTTP interface on this machine."""

import base64
import hashlib
import json
import re
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest

import kilolayer
from kilolayer.cli import main
from kilolayer.config import run_config
from kilolayer.deploy.hub import send
from kilolayer.deploy.policy import DeployedPolicy, open_policy
from kilolayer.errors import UserError
from kilolayer.runtime import hub

pytestmark = pytest.mark.slow

constants = pytest.importorskip("huggingface_hub.constants")
SHA = "a" * 40


class Hub(BaseHTTPRequestHandler):
    """One commit per repository; every file is small enough to lie in the commit itself."""

    repositories: dict[str, dict[str, bytes]] = {}  # noqa: RUF012
    requests: list[str] = []  # noqa: RUF012

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.requests.append(self.path)
        if self.headers.get("Authorization") != "Bearer hf_test":
            self.answer({"error": "Invalid username or password."}, 401)
        elif self.path == "/api/repos/create":
            request = json.loads(body)
            name = (
                f"{request['organization']}/{request['name']}"
                if "organization" in request
                else request["name"]
            )
            exists = name in self.repositories
            self.repositories.setdefault(name, {})
            address = {"url": f"{self.server.address}/{name}"}
            self.answer(
                {"error": "You already created this", **address}, 409
            ) if exists else self.answer(address)
        elif self.path == "/api/validate-yaml":
            assert json.loads(body)["content"].startswith("---\n")
            self.answer({"errors": [], "warnings": []})
        elif "/preupload/" in self.path:
            files = [
                {"path": each["path"], "uploadMode": "regular", "shouldIgnore": False}
                for each in json.loads(body)["files"]
            ]
            self.answer({"files": files})
        elif "/commit/" in self.path:
            name = self.path.split("/api/models/")[1].split("/commit/")[0]
            for line in map(json.loads, body.splitlines()):
                if line["key"] == "file":
                    content = base64.b64decode(line["value"]["content"])
                    self.repositories[name][line["value"]["path"]] = content
            commit = f"{self.server.address}/{name}/commit/{SHA}"
            self.answer({"success": True, "commitOid": SHA, "commitUrl": commit, "hookOutput": ""})
        else:
            self.answer({"error": f"no {self.path}"}, 404)

    def do_GET(self) -> None:
        self.requests.append(self.path)
        path = self.path.partition("?")[0]
        if found := re.fullmatch(r"/api/models/([^/]+/[^/]+)/(revision|tree)/[^/]+", path):
            files = self.repositories.get(found[1])
            if files is None:
                self.answer(
                    {"error": "Repository not found"}, 404, {"X-Error-Code": "RepoNotFound"}
                )
            elif found[2] == "tree":
                self.answer(
                    [
                        {"type": "file", "path": file, "size": len(data), "oid": digest(data)}
                        for file, data in files.items()
                    ]
                )
            else:
                siblings = [{"rfilename": file} for file in files]
                self.answer({"id": found[1], "sha": SHA, "siblings": siblings})
        elif found := re.fullmatch(r"/([^/]+/[^/]+)/resolve/[^/]+/(.+)", path):
            data = self.repositories[found[1]][found[2]]
            headers = {"ETag": f'"{digest(data)}"', "X-Repo-Commit": SHA}
            self.answer(data, 200, headers)
        else:
            self.answer({"error": f"no {path}"}, 404)

    def do_PUT(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.requests.append(f"{self.path} {json.loads(body)}")
        self.answer({})

    do_HEAD = do_GET  # noqa: N815, the server's name for it

    def answer(self, content, status: int = 200, headers: dict[str, str] | None = None) -> None:
        data = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.send_response(status)
        for name, value in {"Content-Length": str(len(data)), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    def log_message(self, *arguments) -> None:
        return


def digest(data: bytes) -> str:
    return hashlib.sha1(data).hexdigest()


@pytest.fixture
def stand_in(monkeypatch, tmp_path):
    """A local hub with a token, in an empty directory."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    server.address = f"http://127.0.0.1:{server.server_port}"
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setattr(Hub, "repositories", {})
    monkeypatch.setattr(Hub, "requests", [])
    address(monkeypatch, server.address, tmp_path)
    monkeypatch.setenv("HF_TOKEN", "hf_test")
    yield Hub
    server.shutdown()
    server.server_close()


def address(monkeypatch, endpoint: str, tmp_path) -> None:
    monkeypatch.setattr(constants, "ENDPOINT", endpoint)
    monkeypatch.setattr(
        constants,
        "HUGGINGFACE_CO_URL_TEMPLATE",
        endpoint + "/{repo_id}/resolve/{revision}/{filename}",
    )
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_PROGRESS_BARS", True)
    monkeypatch.chdir(tmp_path)
    hub.download.cache_clear()


def test_a_policy_that_was_pushed_is_opened_by_its_name(stand_in, tmp_path, capsys):
    main(["push", "zoo:arm_reach_easy", "me/reach"])
    printed = capsys.readouterr().out.strip()
    assert printed.endswith("/me/reach")
    files = stand_in.repositories["me/reach"]
    assert set(files) == {"README.md", "policy.json", "policy.safetensors", "picture.png"}
    card = files["README.md"].decode()
    assert re.match(r"---\nlicense: apache-2.0\nlibrary_name: kilolayer\n", card)
    for fact in (
        "# arm_reach_easy, depth 4",
        "![A few moments of four episodes](picture.png)",
        "kilolayer play hf:me/reach",
        "| success, share of episodes | 0.996 (0.986 to 0.999) |",
        "kilolayer train --task arm_reach_easy",
        f"kilolayer {kilolayer.__version__}",
        "Licence: Apache-2.0",
    ):
        assert fact in card
    ours, theirs = open_policy("zoo:arm_reach_easy"), open_policy("hf:me/reach")
    observation = np.zeros(ours.spec.task.observation_dim)
    goal = np.full(3, 0.3)
    np.testing.assert_array_equal(ours.policy(observation, goal), theirs.policy(observation, goal))
    film = kilolayer.play("hf:me/reach", out=None)
    assert film.name == "play_reach.mp4"
    assert {path.name for path in tmp_path.iterdir()} == {"cache", "play_reach.mp4"}


def test_pushed_run_is_scored_and_its_card_has_no_local_paths(stand_in, run_copy):
    kilolayer.push(run_copy.path, "me/maze", episodes=8, progress=False)
    text = b"".join(stand_in.repositories["me/maze"].values())
    assert str(run_copy.path.parent).encode() not in text
    card = stand_in.repositories["me/maze"]["README.md"].decode()
    assert "8 episodes with the task's evaluation goals" in card
    assert re.search(
        r"\| time at goal, of 200 control steps \| [\d.]+ \([-\d.]+ to [\d.]+\) \|", card
    )


def test_existing_repository_is_kept_without_update(stand_in, capsys):
    stand_in.repositories["me/reach"] = {"README.md": b"precious"}
    with pytest.raises(SystemExit) as stop:
        main(["push", "zoo:arm_reach_easy", "me/reach"])
    assert stop.value.code == 2
    assert (
        "hf:me/reach exists already: push to another name, or add --update"
        in capsys.readouterr().err
    )
    assert stand_in.repositories["me/reach"] == {"README.md": b"precious"}
    main(["push", "zoo:arm_reach_easy", "me/reach", "--update"])
    assert "policy.json" in stand_in.repositories["me/reach"]


def test_existing_repository_becomes_private_before_the_upload(stand_in, tmp_path):
    stand_in.repositories["me/reach"] = {}
    (tmp_path / "README.md").write_text("---\nlicense: mit\n---\n")
    send(tmp_path, "me/reach", private=True, update=True)
    (settings,) = (each for each in stand_in.requests if "/me/reach/settings" in each)
    assert "private" in settings.partition(" ")[2]
    (commit,) = (each for each in stand_in.requests if "/commit/" in each)
    assert stand_in.requests.index(settings) < stand_in.requests.index(commit)


def test_missing_token_is_explained(stand_in, monkeypatch):
    monkeypatch.delenv("HF_TOKEN")
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", "no-such-file")
    with pytest.raises(UserError, match=r"the hub asks for a token .*`hf auth login`"):
        kilolayer.push("zoo:arm_reach_easy", "me/reach", progress=False)


def test_unreachable_hub_gives_one_sentence(monkeypatch, tmp_path, capsys):
    address(monkeypatch, "http://127.0.0.1:9", tmp_path)
    for arguments in (["push", "zoo:arm_reach_easy", "me/reach"], ["evaluate", "hf:me/reach"]):
        with pytest.raises(SystemExit) as stop:
            main(arguments)
        assert stop.value.code == 2
        assert (
            "the hub cannot be reached for hf:me/reach: check the network"
            in capsys.readouterr().err
        )


def test_nothing_is_sent_for_an_invalid_policy(stand_in, tmp_path):
    made = open_policy("zoo:point_u_maze")
    own = run_config(mjcf="robot.xml", goal_site="tip")
    made = DeployedPolicy(tmp_path, own, made.spec, made.agent_state, "train", {}).save(
        tmp_path / "own"
    )
    for policy, name, sentence in (
        (made.path, "me/own", "only a policy of one of this package's tasks"),
        ("zoo:point_u_maze", "maze", "OWNER/NAME"),
        ("zoo:point_u_maze", "a/b/c", "OWNER/NAME"),
        ("zoo:point_u_maze", "hf:a/b/c", "policy = 'hf:a/b/c' is not allowed"),
    ):
        with pytest.raises(UserError, match=sentence):
            kilolayer.push(policy, name, progress=False)
    open_policy("zoo:point_u_maze")
    assert stand_in.requests == []


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("hf:me/nothing", "the hub has no such repository, or it is private"),
        ("hf:me/other", "this repository holds no policy.json"),
        ("hf:me/code", "its card names code or files of its author's"),
        ("hf:me/damaged", "its card cannot be read"),
        ("hf:a b", "a repository is named OWNER/NAME"),
    ],
)
def test_invalid_hub_names_are_refused(stand_in, name, sentence):
    config = json.loads(run_config(task="examples.puck:make_puck").to_json())
    card = {"config": config}
    stand_in.repositories |= {
        "me/other": {"weights.bin": b"1"},
        "me/code": {"policy.json": json.dumps(card).encode(), "policy.safetensors": b"1"},
        "me/damaged": {"policy.json": b"{", "policy.safetensors": b"1"},
    }
    with pytest.raises(UserError, match=sentence):
        open_policy(name)


def test_missing_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    hub.download.cache_clear()
    with pytest.raises(UserError, match=r"pip install 'kilolayer\[hub\]'"):
        open_policy("hf:me/reach")
