"""What two Stagedoor services need, and no business noun is in (the event contracts aside)."""
