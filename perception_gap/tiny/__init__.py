"""The embedded models (`tiny:teacher`, `tiny:student`, ..): real Qwen2.5-VL classes, trained here on drawn scenes."""
