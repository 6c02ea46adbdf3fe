"""Long thin things: wires, tubes, catheters."""
