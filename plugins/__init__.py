"""The plugins that fyc comes with, besides passes and kernels."""
