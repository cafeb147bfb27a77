"""Studies: each module asks one question of images, vectors and networks, and answers with numbers and a figure."""
