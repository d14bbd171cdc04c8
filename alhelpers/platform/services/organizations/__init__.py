"""The organization, and what belongs to it: members, integrations, drivers, computes, webhooks, bots."""
