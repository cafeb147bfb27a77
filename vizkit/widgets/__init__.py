"""What is shown and clicked in a notebook; the only place that knows ipywidgets."""
