"""The operators' verbs: ``python -m relay.operator queue|trace|send-test|account``. ``make`` calls them."""
