"""Pictures drawn from numbers: SVG strings for live demos, matplotlib figures for static ones. Nothing is computed here."""
