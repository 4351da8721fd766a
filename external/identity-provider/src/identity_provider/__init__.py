"""A small fake OIDC issuer for local stacks and Compose. It believes whoever asks."""
