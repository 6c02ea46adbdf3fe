"""How results show themselves in a notebook, whatever the page around them looks like."""
