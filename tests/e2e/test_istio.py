"""The Istio manifests are what Istio takes, and say the same as envoy/envoy.yaml."""

import json

import pytest
import yaml
from cloudcoil.models.istio.extensions.v1alpha1 import WasmPlugin
from cloudcoil.models.istio.networking.v1alpha3 import EnvoyFilter
from conftest import ROOT


@pytest.fixture
def bootstrap():
    return yaml.safe_load((ROOT / "envoy/envoy.yaml").read_text())


def http_filters(bootstrap):
    chain = bootstrap["static_resources"]["listeners"][0]["filter_chains"][0]
    return {one["name"]: one["typed_config"] for one in chain["filters"][0]["typed_config"]["http_filters"]}


def test_envoyfilter_says_what_envoy_yaml_says(bootstrap):
    manifest = yaml.safe_load((ROOT / "envoy/istio/envoyfilter.yaml").read_text())
    EnvoyFilter.model_validate(manifest)
    inserted = [one["patch"]["value"] for one in manifest["spec"]["configPatches"] if one["applyTo"] == "HTTP_FILTER"]
    assert [one["name"] for one in inserted] == ["envoy.filters.http.wasm", "envoy.filters.http.rbac"]
    wanted = http_filters(bootstrap)
    wanted["envoy.filters.http.wasm"]["config"]["vm_config"]["code"] = {"local": {"filename": "/etc/farebox/farebox.wasm"}}
    assert {one["name"]: one["typed_config"] for one in inserted} == {name: wanted[name] for name in wanted if "wasm" in name or "rbac" in name}


def test_wasmplugin_is_valid():
    manifest = yaml.safe_load((ROOT / "envoy/istio/wasmplugin.yaml").read_text())
    assert manifest["spec"]["failStrategy"] == "FAIL_RELOAD"
    # The models are of Istio 1.24, which did not have this value yet.
    manifest["spec"]["failStrategy"] = "FAIL_CLOSE"
    WasmPlugin.model_validate(manifest)
    with pytest.raises(ValueError):
        WasmPlugin.model_validate({**manifest, "spec": {**manifest["spec"], "phase": "SOMETIMES"}})


def test_wasmplugin_policy_passes_traffic(stack):
    """As Istio hands it over: JSON in one string."""
    manifest = yaml.safe_load((ROOT / "envoy/istio/wasmplugin.yaml").read_text())
    stack(policy=json.dumps(manifest["spec"]["pluginConfig"]) + "\n")
