"""The release's KeyRotation is one that the CRD takes, and that selects the release's pods."""

import jsonschema
import yaml

from tests.charts.slipway import EXTERNAL, made, manifests, refused
from tests.support.charts import CHARTS, values_of

CRD = CHARTS / "slipway-operator/crds-source/keyrotations.yaml"

ON = values_of(
    "operator.keyRotation.enabled=true",
    "operator.keyRotation.provider={openAI: {projectID: proj_1, adminKey: {secretName: openai-admin}}}",
    "streaming.maxTurnSeconds=120",
)


def test_it_rotates_the_models_secret_and_fits_the_definition() -> None:
    rotation = made("KeyRotation", EXTERNAL, ON)
    schema = yaml.load(CRD.read_text(encoding="utf-8"), yaml.CSafeLoader)["spec"]["versions"][0]["schema"]["openAPIV3Schema"]

    jsonschema.validate(rotation["spec"], {**schema["properties"]["spec"], "additionalProperties": False})
    assert rotation["spec"]["target"] == {"secretName": "model-key"}
    assert rotation["spec"]["verify"] == {"url": "http://models.internal:8080/v1/models"}
    assert rotation["spec"]["overlap"] == "120s", "the longest turn"


def test_its_consumers_are_the_releases_pods() -> None:
    labels = made("KeyRotation", EXTERNAL, ON)["spec"]["consumers"]["selector"]["matchLabels"]
    pod = made("Deployment", EXTERNAL, ON)["spec"]["template"]["metadata"]["labels"]

    assert labels.items() <= pod.items()
    assert labels["app.kubernetes.io/component"] == "agent"


def test_there_is_none_unless_asked_for() -> None:
    assert "KeyRotation" not in {manifest["kind"] for manifest in manifests()}


def test_a_cluster_without_the_crd_is_told_what_to_install() -> None:
    sets = ("operator.keyRotation.enabled=true", "operator.keyRotation.provider={pool: {secretName: pool}}")
    model = ("model.name=large", "model.existingSecret=model-key")
    assert "install the chart slipway-operator first" in refused(*sets, *model, "checkCRDs=true")
