"""The only place that opens devices. Everything above speaks to `base.CardLink` and hears `base.DeviceEvent`."""
