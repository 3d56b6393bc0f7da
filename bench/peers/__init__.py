"""Other task queues, measured in turns with Signalbox: their programs, and what drives them."""
