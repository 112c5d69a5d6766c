"""The pytest fixtures, in test suites that use them."""

from __future__ import annotations

import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest

Run = Callable[..., pytest.RunResult]


@pytest.fixture
def run(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run tests in a child process, with only this plugin and warnings as errors."""
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")

    def run(source: str, *arguments: str, ini: str = "") -> pytest.RunResult:
        pytester.makepyfile(test_it=source)
        pytester.makeini(f"[pytest]\n{ini}")
        return pytester.runpytest_subprocess(
            "-p", "heksher.pytest_plugin", "-W", "error", "--strict-markers", *arguments
        )

    return run


def test_each_test_has_an_empty_service_at_a_url_of_its_own(run: Run) -> None:
    run("""
        import pytest

        urls, hosts = set(), set()

        @pytest.mark.parametrize("number", range(3))
        def test_it(heksher_service, number):
            assert heksher_service.features == []
            assert heksher_service.get("/settings") == {"settings": []}
            assert heksher_service.faults.rules == tuple(heksher_service.faults.requests) == ()
            heksher_service.features = ["user"]
            heksher_service.declare("a")
            heksher_service.add_rule("a", 5, user="jim")
            heksher_service.faults.load("status")
            urls.add(heksher_service.url)
            hosts.add(heksher_service.direct_url)
            assert (len(urls), len(hosts)) == (number + 1, 1)
    """).assert_outcomes(passed=3)


def test_a_test_may_stop_the_service_for_good(run: Run) -> None:
    run("""
        def test_one(heksher_service):
            assert heksher_service.stop() == 0

        def test_two(heksher_service):
            heksher_service.process.kill()
            heksher_service.process.wait()

        def test_three(heksher_service):
            heksher_service.close()

        def test_four(heksher_service):
            assert heksher_service.get("/settings") == {"settings": []}
    """).assert_outcomes(passed=4)


def test_the_marker(run: Run) -> None:
    run("""
        import httpx, pytest

        @pytest.mark.heksher_service(features=["b", "a"], faults="status(418) on GET /x")
        def test_features_and_faults(heksher_service):
            assert heksher_service.features == ["b", "a"]
            assert heksher_service.process is not None
            assert httpx.get(heksher_service.url + "/x", trust_env=False).status_code == 418

        @pytest.mark.heksher_service(in_process=True, api_token="abc")
        def test_a_token_in_this_process(heksher_service):
            assert heksher_service.process is None
            url = heksher_service.url + "/api/v1/settings"
            assert httpx.get(url, trust_env=False).status_code == 401
            right = {"api_token": "abc"}
            assert httpx.get(url, trust_env=False, headers=right).status_code == 200

        @pytest.mark.heksher_service(tls=True)
        def test_tls(heksher_service):
            assert heksher_service.url.startswith("https://")
            url = heksher_service.url + "/api/health"
            trusted = heksher_service.ssl_context
            assert httpx.get(url, trust_env=False, verify=trusted).status_code == 200
    """).assert_outcomes(passed=3)


@pytest.mark.parametrize(
    ("marker", "message"),
    [
        (
            "feature=['user']",
            "unknown option feature of the marker heksher_service: expected features, ",
        ),
        ("['user']", "accepts its options only by name"),
        ("faults='nonsense'", "invalid fault text: unknown fault 'nonsense'"),
    ],
)
def test_a_marker_that_cannot_be(run: Run, marker: str, message: str) -> None:
    done = run(f"""
        import pytest

        @pytest.mark.heksher_service({marker})
        def test_it(heksher_service): ...
    """)
    done.assert_outcomes(errors=1)
    done.stdout.fnmatch_lines([f"*{message}*"])


def test_the_settings_of_pytest(run: Run) -> None:
    run(
        """
        import pytest

        def test_it(heksher_service):
            assert heksher_service.features == ["environment", "user"]
            assert heksher_service.process is None

        @pytest.mark.heksher_service(features=[], in_process=False)
        def test_the_marker_counts_more(heksher_service):
            assert heksher_service.features == []
            assert heksher_service.process is not None
        """,
        ini="heksher_features = environment user\nheksher_service_in_process = true",
    ).assert_outcomes(passed=2)


def test_one_service_for_all_tests(run: Run) -> None:
    run(
        """
        import pytest

        @pytest.fixture(scope="session")
        def rule(heksher_service):
            heksher_service.declare("a")
            return heksher_service.add_rule("a", 5, user="jim")

        @pytest.mark.parametrize("number", range(2))
        def test_it(heksher_service, rule, number):
            assert heksher_service.get(f"/rules/{rule}")["value"] == 5
        """,
        ini="heksher_features = user\nheksher_service_scope = session",
    ).assert_outcomes(passed=2)


def test_a_scope_that_there_is_not(run: Run) -> None:
    done = run(
        "def test_it(heksher_service): ...", ini="heksher_features = a\nheksher_service_scope = all"
    )
    assert done.ret != 0
    assert "'all'" in done.stdout.str() + done.stderr.str()


def test_the_stub(run: Run) -> None:
    run("""
        from heksher import Setting

        ttl = Setting("ttl", int, ["user"], 60)

        def test_one(heksher_stub):
            heksher_stub[ttl].rules = 5
            assert ttl.get(user="jim") == 5
            heksher_stub.reload.assert_not_called()

        def test_two():
            assert ttl.get(user="jim") == 60
    """).assert_outcomes(passed=2)


def test_the_stub_is_strict_from_the_beginning(run: Run) -> None:
    run("""
        import pytest
        from heksher import Setting
        from heksher.exceptions import MissingFeatureError

        ttl = Setting("ttl", int, ["user"], 60)

        def test_a_forgotten_feature(heksher_stub):
            made = Setting("made", int, ["user"], 1)
            for setting in (ttl, made):
                with pytest.raises(MissingFeatureError, match="'user'"):
                    setting.get()
            heksher_stub.set_defaults(user="jim")
            assert (ttl.get(), made.get()) == (60, 1)

        @pytest.mark.heksher_stub(strict=False)
        def test_leniency(heksher_stub):
            assert ttl.get() == 60

        def test_everything_is_undone():
            assert ttl.get() == 60
    """).assert_outcomes(passed=3)


RANKING = """
    import pytest
    from heksher import Setting
    from heksher.clients.stub import Rule
    from heksher.exceptions import InvalidArgumentError

    ttl = Setting("ttl", int, ["theme", "user"], 60)
    rules = [Rule({"user": "jim"}, 1), Rule({"theme": "dark"}, 2)]

    def answer(stub):
        stub[ttl].rules = rules
        return ttl.get(user="jim", theme="dark")
"""


def test_the_stub_ranks_rules_by_the_features_of_the_service(run: Run) -> None:
    run(
        RANKING
        + """
    def test_the_setting_of_pytest(heksher_stub):
        assert answer(heksher_stub) == 2

    @pytest.mark.heksher_stub(features=["theme", "user"])
    def test_the_marker_counts_more(heksher_stub):
        assert answer(heksher_stub) == 1
        """,
        ini="heksher_features = user theme",
    ).assert_outcomes(passed=2)


def test_a_stub_that_cannot_know_which_rule_wins_names_the_option(run: Run) -> None:
    run(
        RANKING
        + """
    def test_no_order(heksher_stub):
        with pytest.raises(InvalidArgumentError, match="pytest's option heksher_features"):
            answer(heksher_stub)
        assert ttl.get(user="jim", theme="dark") == 60

    @pytest.mark.heksher_stub(strict=False)
    def test_leniency(heksher_stub):
        assert answer(heksher_stub) == 1
        """
    ).assert_outcomes(passed=2)


def test_a_suite_whose_stubs_are_lenient(run: Run) -> None:
    run(
        """
        import pytest
        from heksher import Setting
        from heksher.exceptions import MissingFeatureError

        ttl = Setting("ttl", int, ["user"], 60)

        def test_it(heksher_stub):
            assert ttl.get() == 60

        @pytest.mark.heksher_stub(strict=True)
        def test_the_marker_counts_more(heksher_stub):
            with pytest.raises(MissingFeatureError):
                ttl.get()
        """,
        ini="heksher_stub_strict = false",
    ).assert_outcomes(passed=2)


@pytest.mark.parametrize(
    ("marker", "message"),
    [
        (
            "stric=True",
            "unknown option stric of the marker heksher_stub: expected features, strict",
        ),
        ("False", "the marker heksher_stub accepts its options only by name"),
        ("features='user'", "invalid context features 'user': expected a list of names"),
    ],
)
def test_a_marker_of_the_stub_that_cannot_be(run: Run, marker: str, message: str) -> None:
    done = run(f"""
        import pytest

        @pytest.mark.heksher_stub({marker})
        def test_it(heksher_stub): ...
    """)
    done.assert_outcomes(errors=1)
    done.stdout.fnmatch_lines([f"*{message}*"])


def test_a_missing_package_names_the_extra(run: Run) -> None:
    done = run("""
        import sys

        def test_it(request, monkeypatch):
            monkeypatch.setitem(sys.modules, "starlette", None)
            request.getfixturevalue("heksher_service")
    """)
    done.assert_outcomes(failed=1)
    done.stdout.fnmatch_lines(["*ModuleNotFoundError:*pip install 'heksher[[]testing[]]'*"])


def test_tests_that_ask_for_nothing_pay_for_nothing(run: Run, pytester: pytest.Pytester) -> None:
    pytester.makepyfile(msgspec="raise ImportError('msgspec is broken')")
    run("""
        import sys

        def loaded():
            heavy = {"anyio", "h11", "httpx", "msgspec", "sqlalchemy", "starlette", "trio", "uvicorn"}
            return {name for name in sys.modules if name.split(".")[0] in {"heksher", *heavy}}

        assert loaded() == set()

        def test_it():
            assert loaded() == set()
    """).assert_outcomes(passed=1)


def test_the_entry_point_has_the_name_of_the_public_module() -> None:
    """``-p heksher.pytest_plugin`` finds it by its name."""
    root = Path(__file__).parents[2]
    points = tomllib.loads((root / "pyproject.toml").read_text())["project"]["entry-points"]
    assert points["pytest11"] == {"heksher.pytest_plugin": "_heksher_pytest"}


@pytest.mark.parametrize(
    ("by_itself", "by_option", "by_conftest"),
    [
        (False, True, False),
        (False, False, True),
        (False, True, True),
        (True, True, True),
    ],
)
def test_it_may_be_loaded_in_several_ways_at_once(
    by_itself: bool,
    by_option: bool,
    by_conftest: bool,
    pytester: pytest.Pytester,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if not by_itself:
        monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    if by_conftest:
        pytester.makeconftest('pytest_plugins = ["heksher.pytest_plugin"]')
    options = ["-p", "heksher.pytest_plugin"] if by_option else []
    # The plugin of schemathesis takes seconds to import.
    done = pytester.runpytest_subprocess(*options, "-p", "no:schemathesis", "--markers")
    shown = done.stdout.str()
    assert shown.count("@pytest.mark.heksher_service(features=[], ") == 1
    assert shown.count("@pytest.mark.heksher_stub(features=[], strict=True): ") == 1
