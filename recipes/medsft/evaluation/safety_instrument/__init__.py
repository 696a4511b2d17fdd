"""The safety instrument: emergencies in messages, urgent advice in answers, and how often it is wrong."""
