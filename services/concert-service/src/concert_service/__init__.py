"""concert-service: catalogue, performances, seating plans, sale control and availability."""
