"""Key services of clouds as their documentation describes them, on loopback."""
