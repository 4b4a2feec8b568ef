"""What runs hold, told once and used by writers and readers: versions, tables (pyarrow), JSON files (pydantic)."""
