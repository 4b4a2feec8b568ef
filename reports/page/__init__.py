"""The page: one HTML file with the answer, tables, figures and a browser of samples."""

from reports.page.build import Page, write_page

__all__ = ["Page", "write_page"]
