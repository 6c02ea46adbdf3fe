"""Class artifact compensation: penalties on gradients, and edits of a network that can be taken off again."""
