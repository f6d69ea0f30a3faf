"""What a trained VAE-GAN draws, and whether it is any good."""
