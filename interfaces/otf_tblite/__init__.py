"""GFN-xTB through tblite: the embedded engine. Semi-empirical, not DFT."""
