"""Read and write model bundles: manifest, weights, ensembles and activation ranges."""
