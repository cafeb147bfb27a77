"""Why: saliency on one image, evidence on two or three, and how far each can be trusted."""
