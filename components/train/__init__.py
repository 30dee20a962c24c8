"""Training of the 2-D U-Net on TFRecord shards: recipes, network, losses, augmentation, and the run itself."""

MODEL_FILE, TRAINING_FILE = "model.keras", "training.json"
