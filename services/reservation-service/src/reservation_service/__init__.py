"""The seat inventory: claims, request lanes, holds and their ends. A seat is never sold twice."""
