"""What lmms-eval's registry reads through the entry point `lmms_eval.models`; light, since it is always imported."""

from lmms_eval.models.registry_v2 import ModelManifest

MANIFESTS = (
    ModelManifest("gapcheck_hf", chat_class_path="benchmarks.plugin.GapcheckHF"),
    ModelManifest("lavit", chat_class_path="benchmarks.plugin.Lavit"),
)
