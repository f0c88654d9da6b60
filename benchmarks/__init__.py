"""The races: how fast the client is, next to what a site would otherwise chain together."""
