"""What an operator may set: the model, where its values come from, and how they are shown again."""
