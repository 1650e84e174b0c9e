"""Forecast volatility and stress; calibrate margin and haircut schedules; backtest and sign them."""
