"""The example temperature: temperature by place, month and hour."""
