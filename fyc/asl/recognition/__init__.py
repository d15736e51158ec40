"""From measures to events and markers: features, rules, conditional random fields, training."""
