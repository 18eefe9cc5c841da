namespace Tutti.Cpu.Interpreter;

internal sealed unsafe partial class SoftwareProcessor
{
    public void GetRegisters(ProcessorRegisters registers) => throw new NotImplementedException();

    public void SetRegisters(ProcessorRegisters registers) => throw new NotImplementedException();

    private void DeliverException(int vector, uint error) => throw new NotImplementedException();

    private void DeliverInterrupt(int vector) => throw new NotImplementedException();

    private void ResetToPowerOn() => throw new NotImplementedException();

    private void ResetToInit() => throw new NotImplementedException();

    private void Start(byte vector) => throw new NotImplementedException();

    private void UpdateStepping() => throw new NotImplementedException();

    private void AfterStep() => throw new NotImplementedException();

    private void CheckWatchpoints(ulong linear, int size, bool write) => throw new NotImplementedException();

    private bool IsWatched(ulong linear) => throw new NotImplementedException();
}
