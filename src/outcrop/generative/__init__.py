"""Networks that learn the pictures themselves: VAE, GAN and VAE-GAN."""
