import pytest
import torch

from falloff import machine, training
from falloff.losses import autograd
from falloff.run import Run


def test_the_form_is_eager_where_nothing_compiles(monkeypatch, tmp_path):
    monkeypatch.setenv("FALLOFF_COMPILE", "1")
    monkeypatch.setenv("CXX", "no-such-compiler")
    assert machine.resolve_form("auto", "cpu") == "eager"
    monkeypatch.delenv("CXX")
    monkeypatch.setenv("FALLOFF_COMPILE", "0")
    assert machine.resolve_form("auto", "cpu") == "eager"
    assert machine.resolve_form("compiled", "cpu") == "compiled"  # what was asked for is not changed in silence


def test_python_without_its_headers_compiles_nothing(monkeypatch, tmp_path):
    monkeypatch.setattr(machine.sysconfig, "get_path", lambda _: str(tmp_path))
    machine._has_compiler.cache_clear()
    assert machine.resolve_form("auto", "cpu") == "eager"
    machine._has_compiler.cache_clear()


def test_a_run_of_the_eager_form_compiles_nothing(spots, monkeypatch):
    monkeypatch.setattr(autograd, "COMPILED_FROM", 1)
    monkeypatch.setattr(autograd, "_compiled", lambda *_: pytest.fail("it was compiled"))
    training.train(Run(dataset="spots", width=2, steps=2, batch=4, evaluations=1, form="eager"))


def test_a_compiled_form_that_fails_is_no_record_of_it(spots, monkeypatch):
    def broken(*_):
        raise torch._dynamo.exc.TorchDynamoException("no compiler here")

    monkeypatch.setattr(autograd, "COMPILED_FROM", 1)
    monkeypatch.setattr(autograd, "_compiled", broken)
    monkeypatch.setattr(autograd, "_given_up", [])
    with pytest.raises(RuntimeError, match="FALLOFF_COMPILE=0 takes the eager form"), pytest.warns(RuntimeWarning):
        training.train(Run(dataset="spots", width=2, steps=2, batch=4, evaluations=1, form="compiled"))


def test_a_record_says_where_it_was_computed():
    assert machine.machine(torch.device("cpu")).keys() == {"device", "model", "system"}
    assert machine.versions()["torch"] == torch.__version__
